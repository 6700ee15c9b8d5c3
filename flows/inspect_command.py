"""The command that says what an archive holds."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from flows.options import Archive, Only

if TYPE_CHECKING:
    from pipeline.errors import ImageError
    from pipeline.sources.inspection import Inspected

#: Exit status where some files could not be read.
SOME_FAILED = 3
#: Channels that are named one by one.
LISTED = 8


def register(app: typer.Typer, end: Callable[[Callable[[], int]], None]) -> None:
    """Add the command to the application, see `flows.evaluate_command`."""

    @app.command()
    def inspect(
        archive: Archive,
        only: Only = None,
        as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    ) -> None:
        """Say what images a file or a folder holds, and what a run would make of them.

        Axes, sizes, channels, units, pyramid levels, stage positions, cheap reads, bytes, and
        which files are refused and why. Opens every file, reads no pixels, writes nothing.

        Exit status: 0 all can be read, 3 some cannot, 2 refused.
        """

        def go() -> int:
            from pipeline.errors import ImageError
            from pipeline.sources import discover, distinct_names
            from pipeline.sources.archive import other_suffixes
            from pipeline.sources.chosen import chosen
            from pipeline.sources.inspection import inspect_files
            from pipeline.storage import absolute_path, path_of

            place = path_of(archive)
            specs = distinct_names(discover(place))
            if only is not None:
                specs = chosen(specs, only, absolute_path(place))
            found = inspect_files(specs)
            refused = [item for item in found if isinstance(item, ImageError)]
            images = [item for item in found if not isinstance(item, ImageError)]
            others = other_suffixes(place)
            if as_json:
                typer.echo(json.dumps(document(images, refused, others), indent=1))
            else:
                for line in text(images, refused, others):
                    typer.echo(line)
            return SOME_FAILED if refused else 0

        end(go)


def document(
    images: Sequence[Inspected],
    refused: Sequence[ImageError],
    others: Sequence[tuple[str, int]],
) -> dict[str, object]:
    """All that was found, for machines."""
    return {
        "images": [image.as_json() for image in images],
        "refused": [{"path": e.path, "reason": e.reason, "remedy": e.remedy} for e in refused],
        "other_files": dict(others),
        "total": _totals(images),
    }


def text(
    images: Sequence[Inspected],
    refused: Sequence[ImageError],
    others: Sequence[tuple[str, int]],
) -> Iterator[str]:
    """All that was found, for the terminal."""
    for image in images:
        yield from _lines(image)
    for error in refused:
        yield f"WOULD BE QUARANTINED {error}"
    total = _totals(images)
    yield (
        f"{total['images']} images, {total['megapixels']:,.1f} Mpx; stored "
        f"{_size(total['stored_bytes'])}, as pixels {_size(total['pixel_bytes'])}, copies of a run "
        f"at most {_size(total['written_bytes'])}; {len(refused)} files refused"
    )
    if others:
        listed = ", ".join(f"{suffix or 'no suffix'} ({n})" for suffix, n in others[:LISTED])
        yield f"Not looked at: {listed}"


def _lines(image: Inspected) -> Iterator[str]:
    info = image.info
    sizes = " ".join(f"{a}={n}" for a, n in zip("tczyx", info.shape, strict=True) if a in info.axes)
    yield f"{image.spec.name}  [{image.format_name}]"
    yield f"  axes {info.axes}: {sizes}, {info.dtype}"
    more = f" and {len(info.channels) - LISTED} more" if len(info.channels) > LISTED else ""
    yield f"  channels: {', '.join(info.channels[:LISTED])}{more}"
    step = "" if info.time_step_s is None else f"; time step {info.time_step_s:g} s"
    yield f"  pixel size: {_axes(info.pixel_size_um, 'um') or 'not given'}{step}"
    if place := _axes(info.origin_um, "um"):
        yield f"  stage position: {place}"
    if image.lost:
        yield f"  lost: {image.lost}"
    levels = ", ".join(f"{y} x {x}" for y, x in image.levels)
    yield f"  pyramid levels: {len(image.levels)} ({levels}); the first is read"
    block = " x ".join(str(n) for n in info.chunks)
    yield f"  cheap reads: blocks of {block} (t, c, z, y, x)"
    stored = _size(image.stored_bytes) if image.stored_bytes else "in the file above"
    yield (
        f"  bytes: stored {stored}, as pixels {_size(image.pixel_bytes)}, "
        f"as a copy at most {_size(image.written_bytes)}"
    )


def _axes(values: Sequence[float | None], unit: str) -> str:
    known = [f"{a} {v:g}" for a, v in zip("zyx", values, strict=True) if v is not None]
    return f"{', '.join(known)} {unit}" if known else ""


def _totals(images: Sequence[Inspected]) -> dict[str, float]:
    pixels = sum(math.prod(image.info.shape) // image.info.shape[1] for image in images)
    return {
        "images": len(images),
        "megapixels": pixels / 1e6,
        "stored_bytes": sum(image.stored_bytes for image in images),
        "pixel_bytes": sum(image.pixel_bytes for image in images),
        "written_bytes": sum(image.written_bytes for image in images),
    }


def _size(size: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}"
        size /= 1024
    return f"{size:,.1f} GiB"
