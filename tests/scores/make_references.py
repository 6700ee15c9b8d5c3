"""What the reference implementations say of the shared cases: writes references.json.

    pip install --no-deps stardist==0.9.2 csbdeep==0.8.2
    pip install torchmetrics==1.9.0
    python tests/scores/make_references.py

They are no dependencies of the project, so their answers are stored.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stardist.matching import matching, matching_dataset
from torchmetrics.detection import PanopticQuality

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from score_cases import THRESHOLDS, cases  # noqa: E402

KEPT = ("tp", "fp", "fn", "precision", "recall", "accuracy", "f1", "mean_matched_score")


def of_stardist(found: Any) -> dict[str, float]:
    return {name: float(getattr(found, name)) for name in (*KEPT, "panoptic_quality")}


def of_torchmetrics(truth: np.ndarray, labels: np.ndarray) -> list[float]:
    """PQ, SQ, RQ of the objects; background is one segment of another class."""
    metric = PanopticQuality(things={1}, stuffs={0}, return_sq_and_rq=True, return_per_class=True)
    one, other = (
        torch.tensor(np.stack([image > 0, image], axis=-1).astype(np.int64))[None]
        for image in (labels, truth)
    )
    scores: torch.Tensor = metric(one, other)
    return [float(value) for value in scores[list(metric.things).index(1)]]


def main() -> None:
    names = ("stardist", "torchmetrics", "numpy", "scipy")
    shared = cases()
    thresholds = [percent / 100 for percent in THRESHOLDS]
    truths, labels = zip(*shared.values(), strict=True)
    content = {
        "made_by": "tests/scores/make_references.py",
        "versions": {name: importlib.metadata.version(name) for name in names},
        "stardist": {
            name: [of_stardist(matching(*pair, thresh=t)) for t in thresholds]
            for name, pair in shared.items()
        },
        "stardist_pooled": [
            of_stardist(matching_dataset(truths, labels, thresh=t, show_progress=False))
            for t in thresholds
        ],
        "stardist_by_image": [
            of_stardist(
                matching_dataset(truths, labels, thresh=t, show_progress=False, by_image=True)
            )
            for t in thresholds
        ],
        "torchmetrics": {name: of_torchmetrics(*pair) for name, pair in shared.items()},
    }
    (HERE / "references.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
