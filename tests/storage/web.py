"""A web server of a folder, on this machine."""

from __future__ import annotations

import http.server
import re
from pathlib import Path


class Web(http.server.SimpleHTTPRequestHandler):
    """A web server that gives ranges of its files, as real ones do."""

    def log_message(self, *_) -> None:
        pass

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        found = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if not found or not path.is_file():
            super().do_GET()
            return
        content, (first, last) = path.read_bytes(), found.groups()
        begin = int(first) if first else len(content) - int(last)
        part = content[begin : int(last) + 1 if first and last else None]
        self.send_response(206)
        end = begin + len(part) - 1
        self.send_header("Content-Range", f"bytes {begin}-{end}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)
