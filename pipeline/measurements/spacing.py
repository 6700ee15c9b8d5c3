"""Crofton's formula: lengths and surfaces from how often lines of pixels leave an object."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import SphericalVoronoi

from pipeline.kernels.configurations import half_steps

Floats = NDArray[np.float64]


@functools.lru_cache(maxsize=16)
def crofton_weights(sizes: tuple[float, ...]) -> Floats:
    """What one crossing along each of `half_steps` adds to a perimeter or a surface.

    Lines along a step have a density of one in step / pixel; a direction stands for the part of
    all directions that are nearer to it than to others, as pixels have these sizes.

    Parameters
    ----------
    sizes : tuple of float
        Sides of a pixel along the axes; all known.

    Returns
    -------
    ndarray of shape (4,) or (13,), float64

    References
    ----------
    Legland, Kieu, Devaux: Computation of Minkowski measures on 2D and 3D binary images, Image
    Analysis & Stereology 26, 2007, doi:10.5566/ias.v26.p83-92
    """
    ndim = len(sizes)
    steps = half_steps(ndim)[:, 3 - ndim :] * np.array(sizes)
    length = np.sqrt((steps**2).sum(axis=1))
    share = (_circle if ndim == 2 else _sphere)(steps / length[:, None])
    # Half of the crossings of a line are its chords; a chord stands for pi (4) times the
    # pixel's area (volume) over the step.
    factor = np.pi if ndim == 2 else 4.0
    return np.asarray(factor / 2 * share * np.prod(sizes) / length)


def _circle(directions: Floats) -> Floats:
    """Share of each direction in half a circle."""
    angle = np.arctan2(directions[:, 0], directions[:, 1]) % np.pi
    order = np.argsort(angle)
    gaps = np.diff(angle[order], append=angle[order[0]] + np.pi)
    share = np.empty(len(angle))
    share[order] = (gaps + np.roll(gaps, 1)) / (2 * np.pi)
    return share


def _sphere(directions: Floats) -> Floats:
    """Share of each direction in half a sphere."""
    both = np.concatenate([directions, -directions])
    areas = SphericalVoronoi(both).calculate_areas()
    return np.asarray((areas / areas.sum()).reshape(2, -1).sum(axis=0))
