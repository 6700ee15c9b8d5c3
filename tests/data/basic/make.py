"""Makes flat.npz and dark.npz: pictures, and the profiles that BaSiCPy 2.0.0 finds in them.

It wants other versions of torch, scipy and scikit-image than tilewright, so it needs an environment
of its own: `pip install basicpy==2.0.0`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from basicpy import BaSiC
from scipy import ndimage

HERE = Path(__file__).parent
COUNT, SIDE = 24, 48


def tenths(dark: bool) -> np.ndarray:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    flat = 1.2 - 0.9 * ((y - 0.45) ** 2 + (x - 0.55) ** 2)
    offset = 5 + 5 * x if dark else 0
    found = []
    for _ in range(COUNT):
        spots = ndimage.gaussian_filter(rng.random((SIDE, SIDE)), 1.5)
        bright = np.where(spots > np.quantile(spots, 0.9), 200 * rng.random(), 0)
        level = rng.uniform(60, 140) + bright
        found.append(level * flat / flat.mean() + offset + rng.normal(0, 1, (SIDE, SIDE)))
    return np.round(10 * np.array(found)).astype(np.uint16)


torch.set_num_threads(1)
for name, dark in (("flat", False), ("dark", True)):
    given = tenths(dark)
    basic = BaSiC(
        fitting_mode="approximate",
        sort_intensity=False,
        get_darkfield=dark,
        working_size=SIDE,
        reweighting_tol=1e-2,
        device="cpu",
    )
    basic.fit((given / 10).astype(np.float32))
    np.savez_compressed(
        HERE / f"{name}.npz", tenths=given, flat=basic.flatfield, dark=basic.darkfield
    )
