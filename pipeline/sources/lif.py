"""Leica LIF and LOF: planes as they are. `liffile` finds the images and their blocks of bytes.

Each image and each stage position of a mosaic is an image; Leica's tiles are not stitched.
Steps of a wavelength are channels.
"""

from __future__ import annotations

from typing import Any

import liffile

from pipeline.errors import DamageError, ImageError, UnreadableError
from pipeline.image import ImageInfo
from pipeline.sources.base import SourceSpec, require_file
from pipeline.sources.channel_names import unique_names
from pipeline.sources.file_bytes import FileBytes
from pipeline.sources.fingerprint import fingerprint_file
from pipeline.sources.lif_layout import LayoutError, LifLayout, lay_out
from pipeline.sources.pixel_type import pixel_type
from pipeline.sources.rows import RowLayout, RowSource
from pipeline.sources.scenes import scene_number, scene_specs
from pipeline.storage import is_url, path_of
from pipeline.storage.reading import open_file


class LeicaSource(RowSource):
    """One image, or one stage position of one, of a LIF or LOF file.

    Parameters
    ----------
    spec : SourceSpec
        `series` counts images and, within one, its stage positions.

    Raises
    ------
    UnreadableError
        No Leica file, an image of lifetimes, or dimensions that are not read.
    DamageError
        The file is shorter than it says.
    """

    def __init__(self, spec: SourceSpec) -> None:
        self.spec = spec
        require_file(spec)
        self._files = FileBytes()
        try:
            with open_lif(spec.path) as lif:
                places = _places(spec.path, lif)
                try:
                    image, position = places[scene_number(spec, len(places))]
                except ValueError as error:
                    raise UnreadableError(spec.path, str(error)) from error
                self._open(lif.images[image], position)
            self._require_whole()
        except BaseException:
            self.close()
            raise

    @classmethod
    def list_images(cls, spec: SourceSpec) -> list[SourceSpec]:
        require_file(spec)
        with open_lif(spec.path) as lif:
            places = _places(spec.path, lif)
            paths = [image.path for image in lif.images]
        several = {image for image, position in places if position == 1}
        names = [f"{paths[i]}_m{m}" if i in several else paths[i] for i, m in places]
        return scene_specs(spec, names)

    def _open(self, image: Any, position: int) -> None:
        path = self.spec.path
        if image.is_flim:
            raise UnreadableError(path, f"{image.name} holds lifetimes, no pixels")
        try:
            found: LifLayout = lay_out(image.xml_element)
        except LayoutError as error:
            raise UnreadableError(path, f"{image.name}: {error}") from error
        try:
            block = image.memory_block
        except LookupError as error:
            raise DamageError(
                path, f"is cut off: the pixels of {image.name} are not in it", "Copy it again."
            ) from error
        if found.end_bytes > block.size:
            raise DamageError(
                path,
                f"the pixels of {image.name} take {found.end_bytes} bytes, its block has "
                f"{block.size}",
            )
        self._lif, self._start = found, block.offset + position * found.position_bytes
        _, _, _, height, width = found.shape
        self._layout = RowLayout(height, width, found.row_bytes, found.pixel_bytes, found.dtype)
        self.info = ImageInfo(
            found.shape,
            pixel_type(path, found.dtype),
            found.axes,
            unique_names(found.channels, found.shape[1]),
            found.pixel_size_um,
            found.time_step_s,
            (1, found.interleaved, 1, 1, width),
            found.origins_um[position] if found.origins_um else (None, None, None),
            packed=False,
        )

    def _place(self, t: int, channel: int, z: int) -> tuple[int, int]:
        plane, sample = self._lif.channel_bytes[channel]
        return self._start + plane + t * self._lif.time_bytes + z * self._lif.depth_bytes, sample

    def fingerprint(self) -> str:
        return fingerprint_file(path_of(self.spec.path))


def open_lif(path: str) -> liffile.LifFile:
    """Open a file and read its metadata.

    Raises
    ------
    UnreadableError
        It is no LIF or LOF file.
    """
    try:
        lif = liffile.LifFile(open_file(path) if is_url(path) else path)
        _ = lif.images  # lists them: what the XML lacks is found here
    except Exception as error:  # cut metadata surface as errors of XML and of struct
        said = f"its XML lacks {error}" if isinstance(error, KeyError) else str(error)
        raise UnreadableError(
            path,
            f"is no Leica file that is understood: {said}",
            "Check that the copy is complete.",
        ) from error
    if lif.type not in (liffile.LifFileType.LIF, liffile.LifFileType.LOF):
        lif.close()
        raise UnreadableError(path, f"is a Leica file of kind {lif.type.name}, which is not read")
    return lif


def _places(path: str, lif: liffile.LifFile) -> list[tuple[int, int]]:
    """(image, stage position) of all images of a file."""
    found = []
    for number, image in enumerate(lif.images):
        try:
            positions = 1 if image.is_flim else lay_out(image.xml_element).positions
        except (LayoutError, ImageError, LookupError, ValueError):
            positions = 1  # what is wrong is said where it is opened
        found += [(number, position) for position in range(positions)]
    if not found:
        raise UnreadableError(path, "is a Leica file without an image")
    return found
