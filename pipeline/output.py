"""Where the results of one image are staged, and what surrounds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import zarr

from pipeline.display import display_windows
from pipeline.errors import MethodError
from pipeline.image import AXES, ImageInfo
from pipeline.pyramid import Pyramid, level_count
from pipeline.recipe import Recipe
from pipeline.sources import SourceSpec
from pipeline.sources.parts import Site
from pipeline.sources.seen import PLAIN
from pipeline.storage import AnyPath
from pipeline.storage.folders import delete_folder
from pipeline.storage.zarr_store import zarr_place

LABELS = "labels"
PROBABILITIES = "probabilities"
#: Tables of the graph that regions were merged on.
GRAPHS = "graphs"
#: The object table as AnnData.
TABLES = "tables"
#: The outlines of the objects, a file beside the images.
OUTLINES = "outlines"
#: What the regions were merged from, a label image of its own.
FRAGMENTS = "fragments"
#: What may belong to a label, in the order in which it is published.
PARTS = (FRAGMENTS, GRAPHS, TABLES, PROBABILITIES, LABELS)


def place_of(part: str, label: str) -> str:
    """Where a part of a label lies in the image's group."""
    return f"{LABELS}/{label}_{FRAGMENTS}" if part == FRAGMENTS else f"{part}/{label}"


@dataclass(frozen=True, slots=True)
class OutputPlan:
    """Paths and pyramids of one image's results.

    Parameters
    ----------
    root : Path or StorePath
        Staged group: a whole OME-Zarr image, or a bare group around the labels.
    table : Path or StorePath
        Staged object table.
    recipe : Recipe
    info : ImageInfo
    source : SourceSpec
        Where the image comes from.
    mode : {"copy", "none", "in_place"}
        Whether the image is written too, or the labels go into the source.
    zarr_format : {2, 3}
        Format of what is written; 2 only beside an image of OME-Zarr 0.4.
    earlier : tuple of str
        Label images of the same request that are staged before: the image is there, too.
    """

    root: AnyPath
    table: AnyPath
    recipe: Recipe
    info: ImageInfo
    source: SourceSpec
    mode: Literal["copy", "none", "in_place"]
    zarr_format: Literal[2, 3] = 3
    earlier: tuple[str, ...] = ()

    @property
    def measures_quality(self) -> bool:
        """Whether the image's quality is measured with this label, which is then its first."""
        return self.recipe.measure.quality and not self.earlier

    @property
    def quality(self) -> AnyPath:
        """Staged table of the image's quality, beside that of its objects; no label's name."""
        return self.table.with_name("_quality.parquet")

    @property
    def site(self) -> Site | None:
        """Where in a published plate the image belongs; None where it stands by itself.

        Labels without their image make no field that the format knows.
        """
        site = self.source.site
        return site if site is not None and site.row and self.mode == "copy" else None

    @property
    def image(self) -> Pyramid | None:
        """The image's pyramid; None where it is not written."""
        if self.mode != "copy" or self.earlier:
            return None
        levels = level_count(self.info, self.recipe.output.pyramid)
        return Pyramid(
            str(self.root), "image", self.info, self.info.dtype, self.recipe.ndim, levels
        )

    def labels(self, count: int) -> Pyramid:
        """The labels' pyramid for a number of objects, or of classes."""
        dtype = "uint32" if count < 2**32 else "uint64"
        return self._labels(LABELS, "uint8" if self.recipe.segment.classes() else dtype)

    @property
    def fragments(self) -> Pyramid | None:
        """The pyramid of what regions are merged from; None where it is not wanted."""
        wanted = self.recipe.merge is not None and self.recipe.output.fragments
        # Their graph lives in memory, so they are fewer than 2**32.
        return self._labels(FRAGMENTS, "uint32") if wanted else None

    def _labels(self, part: str, dtype: str) -> Pyramid:
        levels = level_count(self.info, self.recipe.output.pyramid)
        return Pyramid(
            str(self.root / place_of(part, self.recipe.label)),
            "labels",
            self.info,
            dtype,
            self.recipe.ndim,
            levels,
            self.zarr_format,
        )

    @property
    def probabilities(self) -> Pyramid | None:
        """The pyramid of the classes' probabilities; None where there are none.

        It is an image of its own, whose channels are the classes.
        """
        if not self.recipe.segment.has_probabilities():
            return None
        names = tuple(one.name for one in self.recipe.segment.classes())
        info = probabilities_info(self.info, names)
        levels = level_count(info, self.recipe.output.pyramid)
        path = self.root / place_of(PROBABILITIES, self.recipe.label)
        return Pyramid(
            str(path), "image", info, info.dtype, self.recipe.ndim, levels, self.zarr_format
        )

    @property
    def parts(self) -> tuple[str, ...]:
        """What belongs to this label, in the order in which it is published."""
        absent = set()
        if self.recipe.merge is None:
            absent.add(GRAPHS)
        if self.fragments is None:
            absent.add(FRAGMENTS)
        if self.probabilities is None:
            absent.add(PROBABILITIES)
        if self.recipe.output.table is None:
            absent.add(TABLES)
        return tuple(part for part in PARTS if part not in absent)

    @property
    def outlines(self) -> AnyPath:
        """Staged outlines, where the recipe asks for them."""
        return self.table.with_name(f"{self.table.stem}.geojson")

    @property
    def graph(self) -> AnyPath:
        """Folder of the tables of the graph that regions were merged on."""
        return self.root / place_of(GRAPHS, self.recipe.label)

    @property
    def listed(self) -> tuple[str, ...]:
        """Names of the label images that this request makes."""
        own = self.recipe.label
        return (own,) if self.fragments is None else (own, f"{own}_{FRAGMENTS}")

    def prepare(self) -> None:
        """Begin with an empty staging folder, unless earlier labels are in it."""
        if self.earlier:
            return
        delete_folder(self.root)
        self.root.mkdir(parents=True)
        if self.mode != "copy":
            group = zarr.open_group(zarr_place(self.root), mode="w", zarr_format=self.zarr_format)
            if self.zarr_format == 3:
                group.attrs["ome"] = {"version": "0.5"}

    def finish_image(self) -> None:
        """Write the image's metadata."""
        image = self.image
        if image is None:
            return
        windows = display_windows(image)
        channels = [
            {"label": name, "active": True, "color": color, "window": window}
            for (name, color), window in zip(_display(self.info), windows, strict=True)
        ]
        # Fields are called "0", "1" in every well.
        name = self.source.name if self.site else self.source.name.rpartition("/")[2]
        image.write_metadata({"omero": {"channels": channels}}, name)

    def finish_probabilities(self) -> None:
        """Write the metadata of the probabilities."""
        pyramid = self.probabilities
        if pyramid is None:
            return
        window = {"min": 0.0, "max": 1.0, "start": 0.0, "end": 1.0}
        channels = [
            {
                "label": one.name,
                "active": True,
                "color": "".join(f"{part:02X}" for part in one.color),
                "window": window,
            }
            for one in self.recipe.segment.classes()
        ]
        pyramid.write_metadata({"omero": {"channels": channels}})
        self._group(self.root / PROBABILITIES)

    def staged_source(self) -> SourceSpec:
        """The staged copy of the image, as a source for all further reading."""
        return replace(
            self.source,
            reader="ome_zarr",
            path=str(self.root),
            series="",
            missing_chunks="error",
            seen=PLAIN,
            parts=(),
        )

    def finish(self, labels: Pyramid, count: int) -> None:
        """Write the labels' metadata and list them in their parent."""
        label_meta: dict[str, Any] = {"source": {"image": "../../"}}
        if classes := self.recipe.segment.classes():
            numbered = list(enumerate(classes, start=1))
            label_meta["colors"] = [
                {"label-value": i, "rgba": [*one.color, 255]} for i, one in numbered
            ]
            label_meta["properties"] = [{"label-value": i, "name": c.name} for i, c in numbered]
        self._write_label(labels, label_meta)
        if self.fragments is not None:
            self._write_label(self.fragments, {"source": {"image": "../../"}})
        if self.recipe.merge is not None:  # groups, or zarr takes the folders for something strange
            for folder in (self.graph.parent, self.graph):
                self._group(folder)
        listing = [*self.earlier, *self.listed]
        parent = self._group(self.root / LABELS)
        if self.zarr_format == 3:
            parent.attrs["ome"] = {"version": "0.5", "labels": listing}
        else:
            parent.attrs["labels"] = listing

    def _group(self, place: AnyPath) -> zarr.Group:
        """A group that is there already, or is made."""
        return zarr.open_group(zarr_place(place), mode="a", zarr_format=self.zarr_format)

    def _write_label(self, labels: Pyramid, meta: dict[str, Any]) -> None:
        version = {} if self.zarr_format == 3 else {"version": "0.4"}
        labels.write_metadata({"image-label": {**version, **meta}})


def output_mode(recipe: Recipe, spec: SourceSpec) -> Literal["copy", "none", "in_place"]:
    """Whether the image is copied: by default just where it had to be converted."""
    wanted = recipe.output.image
    is_zarr = spec.reader == "ome_zarr"
    if wanted == "in_place" and not is_zarr:
        raise MethodError(
            spec.name,
            "output.image is in_place, but only an OME-Zarr can take labels in",
            "Use `copy` or `none`.",
        )
    if wanted == "in_place" and spec.seen.reshapes:
        raise MethodError(
            spec.name,
            "output.image is in_place, and the labels of a projection or of some planes do not fit "
            "the image",
            "Use `copy` or `none`.",
        )
    return wanted or ("none" if is_zarr and not spec.seen.reshapes else "copy")


def probabilities_info(info: ImageInfo, names: Sequence[str]) -> ImageInfo:
    """What is known of the probabilities of an image's classes: the classes are its channels."""
    t, _, z, y, x = info.shape
    return replace(
        info,
        shape=(t, len(names), z, y, x),
        dtype="float32",
        axes="".join(axis for axis in AXES if axis == "c" or axis in info.axes),
        channels=tuple(names),
    )


def _display(info: ImageInfo) -> list[tuple[str, str]]:
    """Name and colour of each channel for viewers."""
    palette = ["FFFFFF"] if len(info.channels) == 1 else ["0000FF", "00FF00", "FF0000", "FFFF00"]
    if info.channels[:3] == ("red", "green", "blue"):
        palette = ["FF0000", "00FF00", "0000FF", "FFFFFF"]
    return [(name, palette[i % len(palette)]) for i, name in enumerate(info.channels)]
