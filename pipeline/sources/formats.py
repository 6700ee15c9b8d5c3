"""The formats that images are read from, one entry each: adding one is an entry and its reader."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from pipeline.sources.plugins import claimed_suffix, plugin_suffixes


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of files, and what reads it.

    Parameters
    ----------
    name : str
        As its users call it.
    reader : str
        What `SourceSpec.reader` says.
    source : str
        "module:class" of the `Source`. Named, not imported: a worker that reads PNG never loads
        zarr.
    suffixes : tuple of str
        Of its files, in lower case; () for folders.
    reads : str
        Which reads of a part are cheap, for users.
    extra : str
        The extra of tilewright that brings its libraries; "" where none is needed.
    needs : tuple of str
        Modules that must be installed.
    """

    name: str
    reader: str
    source: str
    suffixes: tuple[str, ...]
    reads: str
    extra: str = ""
    needs: tuple[str, ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        """Modules that are not installed here."""
        return tuple(module for module in self.needs if find_spec(module) is None)


EXTRA = "formats"

#: Slides whose pixels lie in files beside them, and those files.
SLIDES_OF_FILES, SLIDE_PARTS = (".vms", ".vmu"), (".jpg", ".ngr", ".opt")

FORMATS = (
    Format(
        "TIFF, BigTIFF, OME-TIFF",
        "tiff",
        "pipeline.sources.tiff:TiffSource",
        tuple(
            f"{kind}{s}" for kind in (".ome", "") for s in (".tiff", ".tif", ".btf", ".tf8", ".tf2")
        ),
        "rows of uncompressed pages; else the strips or tiles that a region meets",
    ),
    Format(
        "Slides in TIFF: Aperio SVS, Hamamatsu NDPI, Leica SCN, Akoya QPTIFF",
        "tiff",
        "pipeline.sources.tiff:TiffSource",
        (".svs", ".ndpi", ".scn", ".qptiff"),
        "the tiles that a region meets",
    ),
    Format(
        "PNG, JPEG",
        "picture",
        "pipeline.sources.picture:PictureSource",
        (".png", ".jpg", ".jpeg"),
        "the whole picture, once",
    ),
    Format(
        "Zeiss CZI",
        "czi",
        "pipeline.sources.czi:CziSource",
        (".czi",),
        "rows of plain sub-blocks; else the sub-blocks that a region meets",
    ),
    Format(
        "Nikon ND2",
        "nd2",
        "pipeline.sources.nd2:NikonSource",
        (".nd2",),
        "rows; of compressed files whole frames",
        EXTRA,
        ("nd2",),
    ),
    Format(
        "Leica LIF, LOF",
        "lif",
        "pipeline.sources.lif:LeicaSource",
        (".lif", ".lof"),
        "rows",
        EXTRA,
        ("liffile",),
    ),
    Format(
        "DeltaVision",
        "dv",
        "pipeline.sources.dv:DeltaVisionSource",
        (".dv", ".r3d"),
        "rows",
        EXTRA,
        ("mrc",),
    ),
    Format(
        "Slides by OpenSlide: MIRAX, Hamamatsu VMS and VMU, Ventana BIF, Sakura",
        "slide",
        "pipeline.sources.slide:SlideSource",
        (".mrxs", ".vms", ".vmu", ".bif", ".svslide"),
        "the tiles that a region meets",
        EXTRA,
        ("openslide",),
    ),
    Format(
        "What installed plug-ins of bioio read",
        "bioio",
        "pipeline.sources.bioio_image:BioioSource",
        (),
        "as the plug-in has it, often whole planes",
        EXTRA,
        ("bioio",),
    ),
    Format(
        "OME-Zarr 0.4, 0.5",
        "ome_zarr",
        "pipeline.sources.ome_zarr:OmeZarrSource",
        (),
        "the chunks that a region meets",
    ),
)

#: No format of files, but what puts files together.
COMPOSED = Format(
    "fields and channels in files of their own",
    "composed",
    "pipeline.sources.composed:ComposedSource",
    (),
    "of the files that a region meets, what each of them reads",
)

#: Several entries may share a reader, which needs the same for all of them.
BY_READER = {form.reader: form for form in (COMPOSED, *reversed(FORMATS))}
#: Suffixes of names, those of zarr folders among them. Longest first: the second half of a double
#: suffix must not win.
SUFFIXES = tuple(
    sorted(
        {".zarr", ".ome.zarr", *(suffix for form in FORMATS for suffix in form.suffixes)},
        key=lambda suffix: (-len(suffix), suffix),
    )
)
_BY_SUFFIX = {suffix: form for form in FORMATS for suffix in form.suffixes}


def format_of(file_name: str) -> Format | None:
    """The format of a file by its suffix, None for other files; plug-ins come last."""
    known = _BY_SUFFIX.get(_known_suffix(file_name))
    if known is not None:
        return known
    return BY_READER["bioio"] if claimed_suffix(file_name) else None


def split_suffix(name: str) -> tuple[str, str]:
    """A file or folder name without its image suffix, and the suffix as it is spelled."""
    suffix = _known_suffix(name) or claimed_suffix(name)
    return (name[: -len(suffix)], name[-len(suffix) :]) if suffix else (name, "")


def _known_suffix(name: str) -> str:
    lower = name.lower()
    return next((s for s in SUFFIXES if lower.endswith(s) and len(name) > len(s)), "")


def belongs_to_slide(name: str, slide: str) -> bool:
    """Whether a file is a part of the slide "X.vms" beside it: X.jpg, X(1,0).jpg, X_map2.jpg."""
    stem, rest = slide[:-4], name[len(slide) - 4 :]
    return (
        slide.lower().endswith(SLIDES_OF_FILES)
        and name.startswith(stem)
        and rest[:1] in (".", "(", "_")
        and rest.lower().endswith(SLIDE_PARTS)
    )


def file_suffixes() -> list[str]:
    """Suffixes of files that are read, for messages; where an extra is missing, it is named."""
    known = [
        f"{suffix} (with tilewright[{form.extra}])" if form.missing else suffix
        for form in FORMATS
        for suffix in form.suffixes
        if suffix.count(".") == 1
    ]
    return [*known, *(s for s in plugin_suffixes() if s not in SUFFIXES)]
