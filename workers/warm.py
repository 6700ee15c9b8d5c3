"""Importing this module loads the kernels that every image needs.

Numba reads its own tables and a compiled kernel's file at the first call: 0.8 s that each worker
would spend at its first tile; the fork server spends it once, while the command still imports.
"""

from __future__ import annotations

import numpy as np

from pipeline.kernels.histogram import count_whole_numbers
from pipeline.kernels.measure import Quantum, geometry, intensity

_labels = np.ones((1, 1), np.uint32)
_pixels = np.zeros((1, 1), np.uint8)

count_whole_numbers(_pixels, 0, 255)
intensity(_labels, _pixels, geometry(_labels, 1).area, Quantum(0.0, 1.0))
