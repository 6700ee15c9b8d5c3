"""What file names say, however it is spelled: "W1" is w1, plane 01 is 1."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Mapping

from pipeline.errors import RecipeError
from pipeline.names import nearest

log = logging.getLogger(__name__)


class Spelling:
    """The first spelling of everything that names of files tell apart.

    Large and small letters, forms of Unicode and zeros before a number make no difference.
    """

    def __init__(self) -> None:
        self._first: dict[tuple[str, ...], str] = {}

    def first(self, text: str, *where: str) -> str:
        """How it was spelled when it was first met; `where` tells equal texts apart."""
        return self._first.setdefault((*where, meant(text)), text)


def meant(text: str) -> str:
    """The same for all spellings of a text."""
    plain = unicodedata.normalize("NFC", text).casefold()
    return str(int(plain)) if plain.isascii() and plain.isdecimal() else plain


def channel_names(found: set[str], wanted: Mapping[str, str], root: object) -> dict[str, str]:
    """What the channels that names of files tell are to be called.

    Parameters
    ----------
    found : set of str
        As the names have them.
    wanted : dict
        `source.files.channels`.
    root : Path or StorePath
        The archive, for messages.

    Raises
    ------
    RecipeError
        Two would be called alike, or none of those that are renamed is there.
    """
    renamed = {meant(key): name for key, name in wanted.items()}
    # A recipe may serve archives that lack some of its channels, but not all.
    names = {channel: renamed[meant(channel)] for channel in found if meant(channel) in renamed}
    if wanted and found and not names:
        key = next(iter(wanted))
        raise RecipeError(
            f'{root}: source.files.channels names "{key}", and its files have the channels '
            f"{', '.join(sorted(found))}{nearest(key, found)}. Correct the recipe."
        )
    for key in wanted:
        if meant(key) not in {meant(channel) for channel in found}:
            log.warning('%s: no file has the channel "%s" of source.files.channels', root, key)
    owners: dict[str, str] = {}
    for channel in sorted(found):
        name = names.get(channel, channel)
        if name in owners:
            raise RecipeError(
                f'{root}: source.files.channels calls both "{owners[name]}" and "{channel}" '
                f'"{name}". Give each channel a name of its own.'
            )
        owners[name] = channel
    return names
