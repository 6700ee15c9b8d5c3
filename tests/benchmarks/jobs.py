"""The two jobs: what every peer computes, with the constants fixed for all of them.

J1  threshold, then 4-connected components (all peers support this connectivity).
J2  gaussian, threshold, Euclidean distance, gaussian, peaks, watershed of the negated distance.

`components` and `split` take a whole image or one tile, so a tiled peer runs the same kernel
as the whole-image peer and differs only in how it reads, joins and writes.
"""

from __future__ import annotations

import numpy as np

THRESHOLD = 14  # of the raw image (J1) and of the smoothed image (J2); background is 2, nuclei 27
SIGMA = 2.0
TRUNCATE = 4.0
DISTANCE_SIGMA = 1.0  # without it equal distances are many, and skimage breaks ties by window
MIN_DISTANCE = 7
HALO = 64  # > largest nucleus + gaussian support: every object is whole in one tile's window
CHUNK = 1024


def components(image: np.ndarray) -> np.ndarray:
    """Label the 4-connected components of `image > THRESHOLD`.

    Parameters
    ----------
    image : ndarray of shape (Y, X)

    Returns
    -------
    ndarray of uint32, shape (Y, X)
    """
    import cc3d

    return cc3d.connected_components(image > THRESHOLD, connectivity=4, out_dtype=np.uint32)


def split(image: np.ndarray) -> np.ndarray:
    """Separate touching nuclei by the watershed of their distance map.

    A peak is a pixel whose distance is the maximum of the square of side
    `2 * MIN_DISTANCE + 1` around it; 8-connected peaks are one marker. Every step depends on a
    bounded neighbourhood only, so a tile with `HALO` pixels around it sees what the whole
    image sees. (The watershed's queue breaks ties by age, which does depend on the window:
    on the unsmoothed distance map 291 px of 2048 x 2048 changed with the tiling, on the smoothed
    one none.)

    Parameters
    ----------
    image : ndarray of shape (Y, X)

    Returns
    -------
    ndarray of int32, shape (Y, X)
    """
    from scipy import ndimage
    from skimage.segmentation import watershed

    smooth = ndimage.gaussian_filter(image.astype(np.float32), SIGMA, truncate=TRUNCATE)
    mask = smooth > THRESHOLD
    distance = ndimage.distance_transform_edt(mask).astype(np.float32)
    distance = ndimage.gaussian_filter(distance, DISTANCE_SIGMA, truncate=TRUNCATE)
    highest = ndimage.maximum_filter(distance, size=2 * MIN_DISTANCE + 1)
    peaks = mask & (distance == highest)
    markers, _ = ndimage.label(peaks, structure=np.ones((3, 3)))
    return watershed(-distance, markers, mask=mask)


KERNELS = {"J1": components, "J2": split}
