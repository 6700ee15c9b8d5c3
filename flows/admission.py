"""Opening every file of an archive on the workers, and naming the images that they hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from flows.request import Request
from pipeline.admission import Admitted, Refused, admit, renamed
from pipeline.companions import without_companions
from pipeline.errors import ImageError
from pipeline.manifest import Manifest
from pipeline.sources import SourceSpec, discover, distinct_names
from pipeline.sources.chosen import chosen
from pipeline.sources.fields import gather, stitched
from pipeline.sources.names import NONE_GIVEN, Given, keep_plates, still_listed
from pipeline.storage import absolute_path

#: Runs a function over batches, on a cluster or here; answers come in any order.
Submit = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[tuple[Any, Any]]]

#: Files opened by one batch.
BATCH_FILES = 32


def list_sources(request: Request) -> list[SourceSpec]:
    """The images of a request as a first run calls them, see `named_sources`."""
    return named_sources(request)[0]


def named_sources(request: Request, given: Given = NONE_GIVEN) -> tuple[list[SourceSpec], Given]:
    """List the images of a request, by names alone; they do not depend on `--only`.

    Parameters
    ----------
    request : Request
    given : dict
        What images are called in the output, see `names_given`.

    Returns
    -------
    list of SourceSpec, dict
        With those given names that count: whose files the archive still holds.

    Raises
    ------
    RecipeError
        If there is nothing to do.
    """
    source = request.recipe.source
    root = absolute_path(request.archive)
    patterns = request.recipe.companion_patterns()
    found = keep_plates(without_companions(discover(request.archive), patterns), given)
    specs = [replace(spec, missing_chunks=source.missing_chunks) for spec in found]
    if source.files is not None:
        specs = gather(specs, root, source.files)
    if source.layout is not None:
        specs = stitched(specs, root, source.layout)
    given = still_listed(given, specs)
    # What a recipe sees is of the whole image, not of each of its parts.
    specs = [replace(spec, seen=source.seen()) for spec in distinct_names(specs, given)]
    if request.paths is not None:
        specs = [spec for spec in specs if not request.paths.isdisjoint(spec.paths)]
    return specs if request.only is None else chosen(specs, request.only, root), given


def names_given(manifest: Manifest) -> Given:
    """What the images of an output are called; who joins them later gets another name."""
    rows = ((row, row.details.get("spec") or row.details) for row in manifest.images())
    return {(row.source, str(told.get("series", ""))): row.name for row, told in rows}


def admit_sources(
    specs: Sequence[SourceSpec], submit: Submit, given: Given = NONE_GIVEN
) -> list[Admitted | Refused]:
    """Open the files; one that kills its worker does not take its neighbours along."""
    batches = list(_batches(specs))
    found: list[Admitted | Refused] = []
    alone: list[Sequence[SourceSpec]] = []
    for batch, answer in submit(admit, batches):
        if isinstance(answer, BaseException):
            alone += [[spec] for spec in batch]
        else:
            found += answer
    for (spec,), answer in submit(admit, alone):
        found += [_refused(spec, answer)] if isinstance(answer, BaseException) else answer
    found.sort(key=lambda item: (item.spec.path, item.spec.series))
    names = distinct_names([item.spec for item in found], given)
    return [renamed(item, spec) for item, spec in zip(found, names, strict=True)]


def _batches(specs: Sequence[SourceSpec]) -> Iterator[Sequence[SourceSpec]]:
    """As many files each; an image may be made of hundreds."""
    batch: list[SourceSpec] = []
    files = 0
    for spec in specs:
        if batch and files + len(spec.paths) > BATCH_FILES:
            yield batch
            batch, files = [], 0
        batch.append(spec)
        files += len(spec.paths)
    if batch:
        yield batch


def _refused(spec: SourceSpec, error: BaseException) -> Refused:
    if isinstance(error, ImageError):
        return Refused(spec, error)
    return Refused(spec, ImageError(spec.path, f"cannot be opened ({error})"))
