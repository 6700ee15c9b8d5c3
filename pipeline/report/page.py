"""The page: one file that needs nothing else, neither network nor scripts."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from pipeline.files import write_atomically
from pipeline.manifest import Manifest
from pipeline.report import sections
from pipeline.report.again import retry_command
from pipeline.report.flat_fields import flat_fields
from pipeline.report.gallery import gallery
from pipeline.report.plates import PLATE_STYLE, plates
from pipeline.report.quality import image_quality
from pipeline.report.summary import summarize
from pipeline.report.wording import escaped
from pipeline.run_folder import RunFolder

HERE = Path(__file__).parent


def write_report(folder: RunFolder, manifest: Manifest, record: dict[str, Any]) -> None:
    """Write OUT/report.html, or replace it.

    Parameters
    ----------
    folder : RunFolder
    manifest : Manifest
    record : dict
        The content of run.json.
    """
    found = summarize(folder, manifest, float(record["timings"]["total_s"]))
    body = [
        sections.heading(record),
        sections.headline(record, found),
        sections.failures(record, found, retry_command(folder, record["archive"])),
        sections.certificate(record, folder),
        plates(folder),
        gallery(found, record),
        image_quality(folder),
        flat_fields(folder, manifest),
        sections.timing(found, record),
        sections.all_images(found),
        sections.recipe(record),
        sections.versions(record),
    ]
    title = f"{record['recipe']['label']}: {Path(record['archive']).name}"
    page = html_page(title, body, PLATE_STYLE)
    # File names need not be Unicode: what is not becomes a question mark.
    write_atomically(folder.report, page.encode("utf-8", "replace"))


def html_page(title: str, body: list[str], more_style: str = "") -> str:
    """A whole page of sections, with the style and the script of all pages."""
    style = (HERE / "style.css").read_text("utf-8") + more_style
    script = (HERE / "sort.js").read_text("utf-8")
    known = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    # Whatever a name or a message holds, the browser runs this script alone and loads nothing.
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{known}'; base-uri 'none'; form-action 'none'"
    )
    content = "\n".join(part for part in body if part)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escaped(title)}</title>
<style>
{style}</style>
</head>
<body>
<main>
{content}
</main>
<script>{script}</script>
</body>
</html>
"""
