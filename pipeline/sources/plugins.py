"""Which further files the installed plug-ins of bioio read."""

from __future__ import annotations

import functools
import logging
from importlib.metadata import entry_points
from importlib.util import find_spec

log = logging.getLogger(__name__)

GROUP = "bioio.readers"
#: Some plug-ins claim any table and text; in archives these lie beside images.
NO_IMAGES = frozenset(
    f".{kind}"
    for kinds in (
        ("csv", "tsv", "txt", "md", "log", "ini", "cfg", "json", "geojson", "xml", "yaml", "yml"),
        ("htm", "html", "pdf", "doc", "docx", "xls", "xlsx", "py", "db", "sqlite"),
        ("npy", "npz", "parquet", "zip", "zarr", "ome.zarr"),
    )
    for kind in kinds
)


@functools.cache
def plugin_suffixes() -> tuple[str, ...]:
    """Suffixes that plug-ins claim, in lower case, the longest first; () without bioio.

    A plug-in that cannot be loaded claims none, and a warning says so.
    """
    if find_spec("bioio") is None:
        return ()
    found: set[str] = set()
    for entry in entry_points(group=GROUP):
        try:
            claimed = entry.load().ReaderMetadata.get_supported_extensions()
        except Exception as error:  # a plug-in raises what it likes
            log.warning("the plug-in %s of bioio cannot be loaded: %s", entry.name, error)
            continue
        found |= {f".{str(suffix).lower().lstrip('.')}" for suffix in claimed}
    return tuple(sorted(found - NO_IMAGES, key=lambda suffix: (-len(suffix), suffix)))


def claimed_suffix(file_name: str) -> str:
    """The suffix of a file by which a plug-in reads it, in lower case; "" if none does."""
    lower = file_name.lower()
    return next((s for s in plugin_suffixes() if lower.endswith(s) and len(lower) > len(s)), "")
