"""Opening every file of an archive on the workers, and naming the images that they hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from flows.request import Request
from pipeline.admission import Admitted, Refused, admit, renamed
from pipeline.companions import without_companions
from pipeline.errors import ImageError
from pipeline.sources import SourceSpec, discover, distinct_names
from pipeline.sources.archive import matches, none_matches
from pipeline.sources.fields import gather, relative_name, stitched
from pipeline.sources.formats import split_suffix
from pipeline.storage import AnyPath, absolute_path

#: Runs a function over batches, on a cluster or here; answers come in any order.
Submit = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[tuple[Any, Any]]]

#: Files opened by one batch.
BATCH_FILES = 32


def list_sources(request: Request) -> list[SourceSpec]:
    """List the images of a request, by names alone; they do not depend on `--only`.

    Raises
    ------
    RecipeError
        If there is nothing to do.
    """
    source = request.recipe.source
    root = absolute_path(request.archive)
    patterns = request.recipe.companion_patterns()
    found = without_companions(discover(request.archive), patterns)
    specs = [replace(spec, missing_chunks=source.missing_chunks) for spec in found]
    if source.files is not None:
        specs = gather(specs, root, source.files)
    if source.layout is not None:
        specs = stitched(specs, root, source.layout)
    # What a recipe sees is of the whole image, not of each of its parts.
    specs = [replace(spec, seen=source.seen()) for spec in distinct_names(specs)]
    if request.paths is not None:
        specs = [spec for spec in specs if not request.paths.isdisjoint(spec.paths)]
    return specs if request.only is None else _only(specs, request.only, root)


def _only(specs: Sequence[SourceSpec], only: str, root: AnyPath) -> list[SourceSpec]:
    """Those whose name, or one of whose files, is meant by a glob."""
    kept = [spec for spec in specs if matches(_texts(spec, root), only)]
    if specs and not kept:
        first = specs[0].name if specs[0].site else relative_name(specs[0].path, root)
        raise none_matches(str(root), only, len(specs), first)
    return kept


def _texts(spec: SourceSpec, root: AnyPath) -> Iterator[str]:
    yield spec.name
    for path in spec.paths:
        relative = relative_name(path, root)
        yield relative
        folder, _, last = relative.rpartition("/")
        stem = split_suffix(last)[0]
        yield f"{folder}/{stem}" if folder else stem


def admit_sources(specs: Sequence[SourceSpec], submit: Submit) -> list[Admitted | Refused]:
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
    names = distinct_names([item.spec for item in found])
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
