"""The input: the bundled montage of real nuclei, mirror-tiled to the size asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
import zarr
from jobs import CHUNK

MONTAGE = Path(__file__).parents[1] / "data" / "demo" / "montage" / "sixteen_fields.ome.tif"


def mirrored(length: int, size: int) -> np.ndarray:
    """Indices 0..length-1, length-1..0, 0.. and so on, `size` of them."""
    position = np.arange(size) % (2 * length)
    return np.where(position < length, position, 2 * length - 1 - position)


def make_input(path: Path, size: int, montage: Path = MONTAGE) -> Path:
    """Write a (size, size) uint8 zarr v3 array in chunks of 1024, unless it is there."""
    done = path.with_suffix(".done")
    if done.exists():
        return path
    image = tifffile.imread(montage)
    rows, columns = (mirrored(n, size) for n in image.shape)
    array = zarr.create_array(
        path, shape=(size, size), chunks=(CHUNK, CHUNK), dtype=image.dtype, overwrite=True
    )
    for start in range(0, size, CHUNK):
        array[start : start + CHUNK] = image[rows[start : start + CHUNK]][:, columns]
    done.touch()
    return path
