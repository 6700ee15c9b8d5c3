"""Commands that try again what a run could not do."""

from __future__ import annotations

import glob
import shlex

from pipeline.manifest import ImageRow
from pipeline.run_folder import RunFolder


def retry_command(folder: RunFolder, archive: str) -> str:
    """The command that continues a run, and tries images that were refused again."""
    return _line("tilewright", "run", str(folder.recipe), archive, str(folder.root))


def reproduce_command(folder: RunFolder, row: ImageRow) -> str:
    """The command that does one image as the run did, in a folder of its own."""
    beside = str(folder.root.with_name(f"{folder.root.name}-again"))
    recipe, archive = str(folder.recipe), folder.read_run().get("archive")
    if archive and row.details.get("site"):  # its other files, and its place, are the archive's
        return _line("tilewright", "run", recipe, archive, beside, "--only", glob.escape(row.name))
    return _line("tilewright", "run", recipe, row.source, beside)


def _line(*words: str) -> str:
    return " ".join(shlex.quote(word) for word in words)
