"""The page of the viewer: neuroglancer's own files, and where it begins."""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import asdict
from pathlib import Path

from flows.viewer.state import Start
from pipeline.errors import ViewError
from pipeline.report.wording import escaped

START = Path(__file__).with_name("start.js")
INSTALL = "pip install 'tilewright[view]'"
#: The viewer compiles WebAssembly, works in threads, and makes pictures; it loads from here alone.
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; "
    "connect-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
#: The same for its threads, whose decoders make functions of strings of their own.
THREAD_POLICY = POLICY.replace("'wasm-unsafe-eval'", "'unsafe-eval' 'wasm-unsafe-eval'")


def find_client() -> Path:
    """The folder of neuroglancer's files for the browser; nothing of the package is imported.

    Raises
    ------
    ViewError
        It is not installed, or without them.
    """
    found = importlib.util.find_spec("neuroglancer")
    for place in () if found is None else found.submodule_search_locations or ():
        client = Path(place, "static", "client").resolve()
        if (client / "index.html").is_file():
            return client
    what = "is not installed" if found is None else "has no files for the browser in it"
    raise ViewError(f"The viewer needs the package neuroglancer, which {what}: `{INSTALL}`.")


def viewer_page(client: Path, base: str, start: Start) -> str:
    """The viewer's own page, with its files at `base` and the start of this image.

    Parameters
    ----------
    client : Path
        As `find_client` says.
    base : str
        Path of the folder that `client` and `START` are served from.
    start : Start
    """
    page = (client / "index.html").read_text("utf-8")
    page = re.sub(r'(src|href)="(?=[\w.-]+")', rf'\1="{base}', page)
    # A name may hold </script>.
    data = json.dumps(asdict(start)).replace("<", "\\u003c")
    notes = "".join(f'<p class="left-out">{escaped(line)}</p>' for line in start.left_out)
    style = (
        # The number of its channel beside each layer's name.
        ".neuroglancer-layer-item .neuroglancer-position-widget{display:none}"
        ".left-out{position:fixed;left:200px;bottom:8px;z-index:9;margin:0;padding:6px 10px;"
        "border-radius:4px;background:#000c;color:#ffc078;font:13px system-ui,sans-serif}"
    )
    head = (
        f'<head><link rel="icon" href="data:,">'
        f'<script type="application/json" id="start">{data}</script>'
        f'<script defer src="{base}{START.name}"></script><style>{style}</style>'
    )
    return page.replace("<head>", head, 1).replace("<body>", f"<body>{notes}", 1)
