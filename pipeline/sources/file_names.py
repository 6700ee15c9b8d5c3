"""What the names of files say: plate, well, field, channel, plane and time.

A recipe gives a template, "{plate}/{well}_{field}_{channel}.tif", a regular expression with the
same names for its groups, or one of `PRESETS`. It is held against the path below the archive, the
archive's own name included, from any folder on.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

from pipeline.names import nearest
from pipeline.sources.formats import split_suffix
from pipeline.sources.spelling import meant

#: What a name may tell, and what matches it where a template does not say.
GROUPS = {
    "plate": r"[^/]+?",
    "well": r"[A-Za-z]{1,2}\d{1,2}",
    "row": r"[A-Za-z]{1,2}|\d{1,2}",
    "column": r"\d{1,2}",
    "field": r"[^/]+?",
    "channel": r"[^/_]+?",
    "z": r"\d+",
    "t": r"\d+",
}
_ANY_SUFFIX = r"(?:\.ome)?\.[a-z0-9]+"
_GUID = r"[0-9A-F]{8}(?:-[0-9A-F]{4}){3}-[0-9A-F]{12}"


@dataclass(frozen=True, slots=True)
class Preset:
    """How the export of one microscope is named."""

    regex: str
    ignore: tuple[str, ...] = ()


# Names as open programs document them: ImageXpress in CellProfiler's default expression of the
# Metadata module and in ezstitcher's docs (folders TimePoint_1/ZStep_1); Phenix and CellVoyager in
# fractal's converters and the Cell Painting Gallery; IncuCyte in BIOP's and DeepCell's readers.
PRESETS = {
    "imagexpress": Preset(
        r"(?:TimePoint_(?P<t>\d+)/)?(?:ZStep_(?P<z>\d+)/)?"
        r"(?:(?P<plate>[^/]+)_)?(?P<well>[A-Z]{1,2}\d{2})(?:_s(?P<field>\d+))?"
        rf"(?:_(?P<channel>w\d))?(?:{_GUID})?\.tiff?",
        ("*_thumb*",),
    ),
    "phenix": Preset(
        r"(?:(?P<plate>[^/]+)/Images/)?r(?P<row>\d+)c(?P<column>\d+)f(?P<field>\d+)p(?P<z>\d+)"
        r"-(?P<channel>ch\d+)sk(?P<t>\d+)fk\d+fl\d+\.tiff?"
    ),
    "cellvoyager": Preset(
        r"(?P<plate>[^/]+)_(?P<well>[A-Z]{1,2}\d{2})_T(?P<t>\d+)F(?P<field>\d+)L\d+A\d+Z(?P<z>\d+)"
        r"(?P<channel>C\d+)\.(?:tiff?|png)",
        ("*DC_* #*_CAM*", "*SC_BP*_CH*"),  # the camera's offset and the shading
    ),
    "incucyte": Preset(
        r"(?P<plate>[^/]+)_(?P<well>[A-Z]\d{1,2})_(?P<field>\d+)"
        r"_(?P<t>\d+y\d+m\d+d_\d+h\d+m|\d+d\d+h\d+m)\.tiff?"
    ),
}
#: Other names of the same.
_ALIASES = {"metaxpress": "imagexpress", "operetta": "phenix"}


class FilesSection(BaseModel):
    """Which files belong together: exactly one of `preset`, `template`, `regex`.

    `ignore`: globs of files that are left out; `channels`: names for what the file names say.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: str | None = None
    template: str | None = None
    regex: str | None = None
    ignore: tuple[str, ...] = ()
    channels: dict[str, str] = {}

    @model_validator(mode="after")
    def _one_pattern(self) -> Self:
        given = [way for way in (self.preset, self.template, self.regex) if way is not None]
        if len(given) != 1:
            raise ValueError("give one of preset, template, regex")
        if self.preset is not None and self._preset is None:
            hint = nearest(self.preset, PRESETS)
            raise ValueError(f"{self.preset!r} is none of {', '.join(PRESETS)}{hint}")
        names = set(_compiled(self).groupindex) - {"folder"}
        if unknown := sorted(names - set(GROUPS)):
            hint = nearest(unknown[0], GROUPS)
            raise ValueError(f"{unknown[0]!r} is none of {', '.join(GROUPS)}{hint}")
        if not names:
            raise ValueError('name what changes, for example "{well}_{field}_{channel}.tif"')
        if len(set(self.channels.values())) < len(self.channels):
            raise ValueError("channels: two channels cannot have one name")
        if len(set(map(meant, self.channels))) < len(self.channels):
            raise ValueError("channels: large and small letters are the same, name each once")
        if "well" in names and names & {"row", "column"}:
            raise ValueError("give the well, or row and column, not both")
        if ("row" in names) != ("column" in names):
            raise ValueError("row and column make a well together: give both")
        return self

    @property
    def _preset(self) -> Preset | None:
        name = (self.preset or "").lower()
        return PRESETS.get(_ALIASES.get(name, name))

    @property
    def said(self) -> str:
        """The pattern as the recipe has it, for messages."""
        return str(self.preset or self.template or self.regex)

    def ignores(self, relative: str) -> bool:
        """Whether a file is left out: by the recipe's globs on its path, a preset's on its name."""
        name = relative.rpartition("/")[2]
        preset = self._preset.ignore if self._preset else ()
        return any(fnmatch.fnmatchcase(relative, glob) for glob in self.ignore) or any(
            fnmatch.fnmatchcase(name, glob) for glob in preset
        )

    def read(self, path: str) -> dict[str, str] | None:
        """What a path says, by group; None if it does not fit.

        "folder" is what comes before the part that fits.
        """
        found = _compiled(self).fullmatch(path)
        if found is None:
            return None
        return {key: value for key, value in found.groupdict().items() if value is not None}

    @property
    def expression(self) -> str:
        """The regular expression of the part of a path that tells."""
        if self._preset is not None:
            return self._preset.regex
        if self.regex is not None:
            return self.regex.removeprefix("^").removesuffix("$")
        return "".join(_of_template(str(self.template)))


def _named(value: Any) -> Any:
    """A single text is a preset or a template."""
    if not isinstance(value, str):
        return value
    if "{" in value:
        return {"template": value}
    return {"preset": value}


#: How a recipe says which files belong together.
Files = Annotated[FilesSection, BeforeValidator(_named)]


def _of_template(template: str) -> Iterator[str]:
    """The parts of a regular expression: `{name}`, `{name:expression}` and `{*}`, else as it is."""
    seen: set[str] = set()
    for k, piece in enumerate(re.split(r"\{((?:[^{}]|\{[^{}]*\})*)\}", template)):
        name, _, own = piece.partition(":")
        if k % 2 == 0:
            yield re.escape(piece)
        elif name == "*":
            yield r"[^/]*"
        elif name in seen:  # again in the folder and the file: it must be the same
            yield f"(?P={name})"
        elif not name.isidentifier():
            raise ValueError(f"{{{piece}}} is no group: use {{name}}, {{name:expression}} or {{*}}")
        else:
            seen.add(name)
            yield f"(?P<{name}>{own or GROUPS.get(name, '')})"
    if not split_suffix(template)[1]:
        yield _ANY_SUFFIX


def _compiled(files: FilesSection) -> re.Pattern[str]:
    return _compile(files.expression)


@lru_cache(maxsize=32)
def _compile(expression: str) -> re.Pattern[str]:
    try:
        # The shortest folder first, so that optional folders of a pattern are seen.
        return re.compile(rf"(?:(?P<folder>.*?)/)?(?:{expression})", re.IGNORECASE)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from error
