"""The input: the bundled montage of real nuclei, mirror-tiled to the size asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
import zarr
from jobs import CHUNK
from skimage import io

DATA = Path(__file__).parents[1] / "data"
MONTAGE = DATA / "demo" / "montage" / "sixteen_fields.ome.tif"
TISSUE = DATA / "histology" / "4590d7d47f52.png"


def mirrored(length: int, size: int) -> np.ndarray:
    """Indices 0..length-1, length-1..0, 0.. and so on, `size` of them."""
    position = np.arange(size) % (2 * length)
    return np.where(position < length, position, 2 * length - 1 - position)


def make_input(path: Path, size: int, montage: Path = MONTAGE) -> Path:
    """Write an OME-Zarr 0.5 image, (size, size) uint8 in chunks of 1024, unless it is there.

    Returns
    -------
    Path
        The array of level 0, the only one.
    """
    done = path.with_suffix(".done")
    if done.exists():
        return path / "0"
    image = tifffile.imread(montage)
    rows, columns = (mirrored(n, size) for n in image.shape)
    group = zarr.open_group(path, mode="w")
    scale = {"coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0]}]}
    axes = [{"name": name, "type": "space"} for name in "yx"]
    multiscale = {"name": "nuclei", "axes": axes, "datasets": [{"path": "0", **scale}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale]}
    array = group.create_array(
        "0",
        shape=(size, size),
        chunks=(CHUNK, CHUNK),
        dtype=image.dtype,
        dimension_names=["y", "x"],
    )
    for start in range(0, size, CHUNK):
        array[start : start + CHUNK] = image[rows[start : start + CHUNK]][:, columns]
    done.touch()
    return path / "0"


def tissue(path: Path, size: int) -> Path:
    """The picture of stained tissue, mirrored to (3, size, size)."""
    picture = io.imread(TISSUE)[..., :3]
    rows, columns = (mirrored(n, size) for n in picture.shape[:2])
    image = np.moveaxis(picture[rows][:, columns], -1, 0)[:, None]
    group = zarr.open_group(path, mode="w")
    scale = {"coordinateTransformations": [{"type": "scale", "scale": [1.0] * 3}]}
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space"} for name in "yx"]
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [{"name": "tissue", "axes": axes, "datasets": [{"path": "0", **scale}]}],
    }
    array = group.create_array(
        "0", shape=(3, size, size), chunks=(1, 1024, 1024), dtype="uint8",
        dimension_names=["c", "y", "x"],
    )  # fmt: skip
    array[...] = image[:, 0]
    return path
