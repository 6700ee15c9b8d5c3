"""Compiled loops over pixels: NumPy in, NumPy out, and no other part of the package."""

from pipeline.kernels._cache import use_cache_of_this_code

use_cache_of_this_code()
