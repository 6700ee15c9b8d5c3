"""Merged rows of families, band by band: only what reaches over several bands is kept together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.job import ImageJob
from pipeline.measurements.family import Gathering
from pipeline.measurements.measure_round import SEPARATOR
from pipeline.measurements.rows import Rows, concatenate, select

#: Reads the record of a tile that the measuring pass left.
Measured = Callable[[int], Mapping[str, NDArray[Any]]]


@dataclass(frozen=True, slots=True)
class FamilyBands:
    """Rows of one family.

    Parameters
    ----------
    job : ImageJob
    family : Gathering
    records : callable
    bands : list of list of int
        Numbers of the tiles of every band.
    home : ndarray of shape (count + 1,), int64
        By label, the band with whose rows it is asked for.
    alone : ndarray of shape (count + 1,), bool
        Whether all rows of a label come from its home.
    held : dict of ndarray
        Merged rows of all other labels.
    """

    job: ImageJob
    family: Gathering
    records: Measured
    bands: Sequence[Sequence[int]]
    home: NDArray[np.int64]
    alone: NDArray[np.bool_]
    held: Rows

    @classmethod
    def of(
        cls,
        job: ImageJob,
        family: Gathering,
        records: Measured,
        bands: Sequence[Sequence[int]],
        home: NDArray[np.int64],
    ) -> FamilyBands:
        """Look through the labels of all tiles, and merge those of several bands."""
        alone = np.ones(len(home), np.bool_)
        for number, band in enumerate(bands):
            for tile in band:
                label = _rows_of(family, records(tile), ("label",))["label"]
                alone[label[home[label] != number]] = False
        held = family.no_rows(job)
        for band in bands:
            found = [_chosen(job, family, records, tile, ~alone) for tile in band]
            held = family.merge(concatenate([held, *found]))
        return cls(job, family, records, bands, home, alone, held)

    def rows(self, band: int) -> Rows:
        """Merged rows of all labels whose home is a band."""
        tiles = self.bands[band]
        found = [_chosen(self.job, self.family, self.records, tile, self.alone) for tile in tiles]
        begun = select(self.held, self.home[self.held["label"]] == band)
        return self.family.merge(concatenate([self.family.no_rows(self.job), begun, *found]))


def _chosen(
    job: ImageJob, family: Gathering, records: Measured, tile: int, chosen: NDArray[np.bool_]
) -> Rows:
    rows = _rows_of(family, records(tile), family.no_rows(job))
    return select(rows, chosen[rows["label"]])


def _rows_of(
    family: Gathering, record: Mapping[str, NDArray[Any]], keys: Sequence[str] | Rows
) -> Rows:
    return {key: record[f"{family.name}{SEPARATOR}{key}"] for key in keys}
