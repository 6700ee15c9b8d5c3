"""The files of a comparison: scores.csv, matches.parquet, scores.json."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.errors import ImageError, OutputError
from pipeline.files import write_atomically
from pipeline.scores.intervals import PERCENTILES, RESAMPLES, SEED, Estimate
from pipeline.scores.matching import spell
from pipeline.scores.pairing import Pair
from pipeline.scores.result import Result
from pipeline.scores.stream import Scored
from pipeline.scores.verdicts import SCHEMA
from pipeline.sources.base import os_reason
from pipeline.table_file import TableFile

IMAGES = "scores.csv"
OBJECTS = "matches.parquet"
SUMMARY = "scores.json"


class Tables:
    """The folder that results are written to.

    Parameters
    ----------
    out : Path or None
        None: nothing is written.

    Raises
    ------
    OutputError
        It cannot be written.
    """

    def __init__(self, out: Path | None) -> None:
        self._out = out
        self._objects: TableFile | None = None
        if out is None:
            return
        try:
            out.mkdir(parents=True, exist_ok=True)
            self._objects = TableFile(out / f".{OBJECTS}.partial", SCHEMA)
        except OSError as error:
            raise OutputError(
                f"{out}: cannot be written: {os_reason(error)}. Choose another folder for --out."
            ) from error

    def keep(
        self, scored: Iterable[tuple[Pair, Scored | ImageError]], failures: list[ImageError]
    ) -> Iterator[tuple[Pair, dict[str, float]]]:
        """Write the objects of every image, and hand its sums on; errors go to `failures`."""
        for pair, answer in scored:
            if isinstance(answer, ImageError):
                failures.append(answer)
                continue
            if self._objects is not None:
                self._objects.add(answer.verdicts.table(pair.name))
            yield pair, answer.sums

    def write(self, result: Result, labels: str, truth: str) -> None:
        """Write the other files, and put all into place."""
        if self._out is None or self._objects is None:
            return
        self._objects.__exit__(None, None, None)
        self._objects = None
        partial = self._out / f".{OBJECTS}.partial"
        if result.settings.classes:
            partial.unlink()
        else:
            partial.replace(self._out / OBJECTS)
        write_atomically(self._out / IMAGES, image_table(result).encode("utf-8", "replace"))
        content = summary(result, labels, truth)
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        write_atomically(self._out / SUMMARY, text.encode("utf-8", "replace"))

    def close(self) -> None:
        """Leave no half a file behind."""
        if self._objects is not None and self._out is not None:
            self._objects.__exit__(RuntimeError, None, None)
            (self._out / f".{OBJECTS}.partial").unlink(missing_ok=True)


def image_table(result: Result) -> str:
    """One row an image as CSV: counts, then scores; empty where a score is not defined."""
    counts = ["truth_objects", "label_objects"] if not result.settings.classes else ["judged_px"]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["image", *counts, *result.scores])
    for i, pair in enumerate(result.pairs):
        row = [int(result.sums[name][i]) for name in counts]
        scores = (float(column[i]) for column in result.scores.values())
        writer.writerow([pair.name, *row, *("" if math.isnan(x) else repr(x) for x in scores)])
    return stream.getvalue()


def summary(result: Result, labels: str, truth: str) -> dict[str, Any]:
    """The content of scores.json; null where a score is not defined."""
    settings = result.settings
    return {
        "tilewright": __version__,
        "labels": labels,
        "truth": truth,
        "settings": {
            "classes": list(settings.classes),
            "thresholds": [] if settings.classes else [spell(t) for t in settings.thresholds],
            "tolerance_px": settings.tolerance_px,
            "interval": {
                "kind": "percentile bootstrap over images",
                "percentiles": list(PERCENTILES),
                "resamples": RESAMPLES,
                "seed": SEED,
            },
        },
        "images": len(result.pairs),
        "totals": {name: _number(float(column.sum())) for name, column in result.sums.items()},
        "scores": {
            one.measure.name: {
                "pooled": _estimate(one.pooled),
                "mean_of_images": {**_estimate(one.mean), "images": one.images},
            }
            for one in result.overall
        },
        "notes": result.notes,
        "without_truth": result.without_truth,
        "not_scored": [str(error) for error in result.failures],
    }


def _estimate(one: Estimate) -> dict[str, float | None]:
    return {"value": _number(one.value), "low": _number(one.low), "high": _number(one.high)}


def _number(value: float) -> float | None:
    if math.isnan(value):
        return None
    return int(value) if value.is_integer() and abs(value) < 2**53 and value > 1 else value
