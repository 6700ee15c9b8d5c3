"""Commands that try again what a run could not do."""

from __future__ import annotations

import shlex

from pipeline.run_folder import RunFolder


def retry_command(folder: RunFolder, archive: str) -> str:
    """The command that continues a run, and tries images that were refused again."""
    return _line("tilewright", "run", str(folder.recipe), archive, str(folder.root))


def reproduce_command(folder: RunFolder, image: str) -> str:
    """The command that does one image as the run did, in a folder of its own."""
    beside = folder.root.with_name(f"{folder.root.name}-again")
    return _line("tilewright", "run", str(folder.recipe), image, str(beside))


def _line(*words: str) -> str:
    return " ".join(shlex.quote(word) for word in words)
