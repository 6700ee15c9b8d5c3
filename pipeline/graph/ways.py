"""All ways of merging, chosen by `by`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.graph.gasp import GaspMerging
from pipeline.graph.merging import HierarchicalMerging, NormalizedCutMerging, ThresholdMerging
from pipeline.graph.multicut import MulticutMerging

AnyMerging = Annotated[
    ThresholdMerging | HierarchicalMerging | NormalizedCutMerging | MulticutMerging | GaspMerging,
    Field(discriminator="by"),
]
