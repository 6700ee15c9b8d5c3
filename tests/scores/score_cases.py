"""Labels and truths that the tests share with the reference implementations.

Made of the bundled truths by whole-number steps only, so that they are the same everywhere.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

TRUTH = Path(__file__).parents[1] / "data" / "truth"
THRESHOLDS = (10, 30, 50, 55, 60, 65, 70, 75, 80, 85, 90, 95)  # per cent


def truth(name: str) -> np.ndarray:
    return np.asarray(Image.open(TRUTH / f"{name}.png")).astype(np.int64)


def cases() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Name -> (truth, labels)."""
    crowded, small = truth("crowded/4d4ebfcae437"), truth("small_nuclei/c75139ef0546")
    noisy = truth("noisy/f728de042672")
    _, x = np.indices(crowded.shape)
    dropped = np.where(small % 3 == 0, 0, small)
    dropped[4:30:9, 4:200:9] = 1000 + np.arange(len(range(4, 200, 9)))
    bricks = np.repeat(np.arange(60) // 10 + 1, 8).reshape(60, 8).T
    square = np.zeros((20, 24), np.int64)
    square[4:14, 6:16] = 7
    nothing = np.zeros_like(square)
    return {
        "equal": (crowded, crowded * 3),
        "shifted": (small, np.roll(small, (1, 2), (0, 1))),
        "shifted far": (noisy, np.roll(noisy, (9, -7), (0, 1))),
        "merged": (crowded, (crowded + 1) // 2),
        "split": (crowded, np.where(crowded > 0, 2 * crowded + x // 8 % 2, 0)),
        "dropped and invented": (small, dropped),
        "without background": (crowded + 1, np.roll(crowded + 1, 3, 0)),
        "exact halves": (square, np.where(square > 0, 1 + (np.indices(square.shape)[1] > 10), 0)),
        "chain": (bricks, np.roll(bricks, 5, 1)),
        "nothing true": (nothing, square),
        "nothing found": (square, nothing),
        "nothing at all": (nothing, nothing),
    }
