"""The one way to pixels: a small spec that travels, and a source that is opened from it."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self, cast

import numpy as np

from pipeline.box import Box
from pipeline.errors import RecipeError, UnreadableError
from pipeline.image import ImageInfo
from pipeline.sources.cache import CACHE_BYTES, SegmentCache
from pipeline.sources.formats import BY_READER
from pipeline.sources.parts import Layout, Part, Site
from pipeline.sources.seen import PLAIN, Seen
from pipeline.storage import is_url
from pipeline.storage.reading import open_file

MISSING_CHUNKS = ("error", "fill")


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """Where an image is; small, picklable, JSON-able. Workers reopen it, handles never travel.

    Parameters
    ----------
    reader : str
        What opens it, see `pipeline.sources.formats`.
    path : str
        Absolute path of the file or the zarr group.
    name : str
        Path in the archive without suffix, with "/": what the user sees.
    series : str
        "" is the only image; else which one of the file, as its reader numbers them, or the group
        inside `path`.
    missing_chunks : str
        "error": a chunk or segment that the file does not hold is damage. "fill": it is the
        file's fill value, as writers mean it that leave out empty chunks.
    seen : Seen
        What a recipe sees of it.
    parts : tuple of Part
        What it is made of, for the reader "composed"; `path` is then that of the first.
    layout : Layout or None
        How its parts, or the images of its file, are to be put together; None where they lie as
        their offsets say, or apart.
    site : Site or None
        Where on a plate it was taken.
    fault : str
        Why it cannot be opened, where that was seen when the archive was listed; else empty.
    scene : str
        What its name has behind that of its file, "s0" or "A01"; "" for the only image.
    """

    reader: str
    path: str
    name: str
    series: str = ""
    missing_chunks: str = "error"
    seen: Seen = PLAIN
    parts: tuple[Part, ...] = ()
    layout: Layout | None = None
    site: Site | None = None
    fault: str = ""
    scene: str = ""

    @property
    def paths(self) -> tuple[str, ...]:
        """All files that it is read from."""
        return tuple(p for part in self.parts for p in part.spec.paths) or (self.path,)

    @property
    def ending(self) -> str:
        """What tells its name from those of the other images of the file; "" for the only one."""
        return self.scene or (f"s{self.series}" if self.series else "")


class Source(ABC):
    """One open image.

    Attributes
    ----------
    info : ImageInfo
        Axes, sizes and units; the image is (T, C, Z, Y, X).
    """

    spec: SourceSpec
    info: ImageInfo
    #: Unpacked blocks, where a source has some.
    _cache: SegmentCache | None = None

    @abstractmethod
    def __init__(self, spec: SourceSpec) -> None:
        """Open the image; raises an ImageError where that cannot be done."""

    @classmethod
    def list_images(cls, spec: SourceSpec) -> list[SourceSpec]:
        """The images of a file, one spec each; `[spec]` unless overridden.

        Names of several end in "_s0", "_s1", ... or in names that the file gives, see
        `pipeline.sources.scenes`; none may depend on what else is in the archive.

        Raises
        ------
        UnreadableError
            The file is none of its kind, or cannot be opened.
        """
        return [spec]

    def read(self, t: int, channels: Sequence[int], box: Box) -> np.ndarray:
        """Read a box of some channels; only what intersects it is touched in the file.

        Parameters
        ----------
        t : int
            Time point.
        channels : sequence of int
            Which channels, in the order wanted.
        box : Box
            (z, y, x) in px, inside the image.

        Returns
        -------
        pixels : ndarray of shape (C, Z, Y, X)
            Of `info.dtype`, C-contiguous, native endian, writable.

        Raises
        ------
        ValueError
            The request is not inside the image.
        DamageError
            Pixels of the box are missing or corrupt; there is never a silent hole.
        UnreadableError
            The file went away, or is not decodable here.
        """
        self._check(t, channels, box)
        out = np.empty((len(channels), *box.shape), np.dtype(self.info.dtype))
        if out.size:
            self._fill(out, t, channels, box)
        return out

    def _check(self, t: int, channels: Sequence[int], box: Box) -> None:
        times, count, *space = self.info.shape
        inside = box.ndim == 3 and Box.whole(space).contains(box)
        if not inside or not 0 <= t < times or any(not 0 <= c < count for c in channels):
            raise ValueError(
                f"{self.spec.name}: time {t}, channels {list(channels)}, {box} are not inside "
                f"(T, C, Z, Y, X) = {self.info.shape}"
            )

    @abstractmethod
    def _fill(self, out: np.ndarray, t: int, channels: Sequence[int], box: Box) -> None:
        """Write every pixel of `out`, of shape (C, Z, Y, X), or raise."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Cheap identity of the content; another string means that the image changed."""

    @abstractmethod
    def close(self) -> None:
        """Give back file handles and cached pixels; a second call does nothing."""

    def hold(self, limit_bytes: int, once: bool = False) -> None:
        """Keep unpacked blocks of so many bytes for the reads to come.

        0 lets go of all blocks; a source then keeps as many as it does by itself. `once` promises
        that no pixel will be read twice, so that a block which one read uses up need not be kept.
        """
        cache = self._cache
        if cache is None:
            return
        cache.limit(limit_bytes or CACHE_BYTES, once)
        if not limit_bytes:
            cache.clear()

    @property
    def level_sizes(self) -> tuple[tuple[int, int], ...]:
        """(Y, X) of the levels of the file's pyramid, the finest first; it alone is read."""
        return (self.info.shape[3:],)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_source(spec: SourceSpec) -> Source:
    """Open the image that `spec` names; reads its metadata, not its pixels.

    Raises
    ------
    UnreadableError
        The file is missing, refused, or no image of its kind.
    DamageError
        The file is shorter than it says.
    RecipeError
        `spec.missing_chunks` is neither "error" nor "fill".
    """
    if spec.fault:
        raise UnreadableError(spec.path, spec.fault)
    if spec.missing_chunks not in MISSING_CHUNKS:
        raise RecipeError(
            f'source.missing_chunks is "{spec.missing_chunks}"; use one of '
            f"{', '.join(MISSING_CHUNKS)}."
        )
    if not spec.seen.is_plain:
        return _imported("pipeline.sources.seen_source", "SeenSource")(spec)
    return source_class(spec)(spec)


def source_class(spec: SourceSpec) -> type[Source]:
    """What opens a spec's image.

    Raises
    ------
    UnreadableError
        There is no such reader, or its libraries are not installed.
    """
    form = BY_READER.get(spec.reader)
    if form is None:
        raise UnreadableError(
            spec.path, f'reader "{spec.reader}" is not one of {", ".join(BY_READER)}'
        )
    if form.missing:
        raise UnreadableError(
            spec.path,
            f"is a file of {form.name}, and {', '.join(form.missing)} is not installed",
            f"Install it: pip install 'tilewright[{form.extra}]'.",
        )
    try:
        return _imported(*form.source.split(":"))
    except ImportError as error:
        raise UnreadableError(
            spec.path,
            f"is a file of {form.name}, and what reads it cannot be loaded: {error}",
            f"Install it again: pip install 'tilewright[{form.extra}]'." if form.extra else "",
        ) from error


def _imported(module: str, name: str) -> type[Source]:
    return cast(type[Source], getattr(importlib.import_module(module), name))


def os_reason(error: OSError) -> str:
    """What the system said, without its number and path, as it stands within a sentence."""
    text = error.strerror or str(error) or type(error).__name__
    # Only the first letter: the rest may name addresses and variables.
    return text[:1].lower() + text[1:]


def require_local(spec: SourceSpec, library: str) -> None:
    """Refuse a file in a store for a reader whose library opens paths only.

    Raises
    ------
    UnreadableError
        The file is not on a disk.
    """
    if is_url(spec.path):
        raise UnreadableError(
            spec.path, f"{library} reads files on disks only", "Copy it to a disk first."
        )


def require_file(spec: SourceSpec) -> None:
    """Open and close the file once, so that a refusal reads the same for every reader.

    Raises
    ------
    UnreadableError
        It is missing, empty, a folder, or not permitted.
    """
    try:
        with open_file(spec.path) as file:
            first = file.read(1)
    except OSError as error:
        raise UnreadableError(
            spec.path,
            f"cannot be opened: {os_reason(error)}",
            "Check the path and its permissions.",
        ) from error
    if not first:
        raise UnreadableError(spec.path, "is empty (0 bytes)", "Copy it again from its origin.")
