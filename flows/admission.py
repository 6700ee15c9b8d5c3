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

#: Runs a function over batches, on a cluster or here; answers come in any order.
Submit = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[tuple[Any, Any]]]

#: Files opened by one batch.
BATCH_FILES = 32


def list_sources(request: Request) -> list[SourceSpec]:
    """List the files of a request; their names do not depend on `--only`.

    Raises
    ------
    RecipeError
        If there is nothing to do.
    """
    source = request.recipe.source
    missing, seen = source.missing_chunks, source.seen()
    patterns = request.recipe.companion_patterns()
    images = without_companions(discover(request.archive), patterns)
    specs = [replace(spec, missing_chunks=missing, seen=seen) for spec in distinct_names(images)]
    if request.paths is not None:
        specs = [spec for spec in specs if spec.path in request.paths]
    if request.only is None:
        return specs
    wanted = {spec.path for spec in discover(request.archive, request.only)}
    return [spec for spec in specs if spec.path in wanted]


def admit_sources(specs: Sequence[SourceSpec], submit: Submit) -> list[Admitted | Refused]:
    """Open the files; one that kills its worker does not take its neighbours along."""
    batches = [specs[k : k + BATCH_FILES] for k in range(0, len(specs), BATCH_FILES)]
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


def _refused(spec: SourceSpec, error: BaseException) -> Refused:
    if isinstance(error, ImageError):
        return Refused(spec, error)
    return Refused(spec, ImageError(spec.path, f"cannot be opened ({error})"))
