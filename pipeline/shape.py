"""Axes, orientation and eccentricity of the ellipse with an object's second moments."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def axes_and_direction(covariance: NDArray[np.float64], unit: str) -> dict[str, NDArray[Any]]:
    """Lengths of the axes and where the longest points.

    Parameters
    ----------
    covariance : ndarray of shape (n, 2, 2) or (n, 3, 3)
        Of the pixels' coordinates (y, x) or (z, y, x); may hold NaN.
    unit : str
        Ends the names of the lengths.

    Returns
    -------
    dict
        2D: axis_major, axis_minor and orientation_rad, the angle between the y axis and the
        longest axis, from -pi/2 to pi/2, counter-clockwise. 3D: also axis_middle, and
        major_direction_{z,y,x}, a unit vector whose first nonzero entry is positive.
    """
    if covariance.shape[-1] == 2:
        return _planar(covariance, unit)
    return _spatial(covariance, unit)


def _planar(covariance: NDArray[np.float64], unit: str) -> dict[str, NDArray[Any]]:
    yy, xx, yx = covariance[:, 0, 0], covariance[:, 1, 1], covariance[:, 0, 1]
    middle = (yy + xx) / 2
    radius = np.sqrt(((yy - xx) / 2) ** 2 + yx**2)
    level = np.where(yx > 0, np.pi / 4, -np.pi / 4)
    turned = 0.5 * np.arctan2(2 * yx, yy - xx)
    return {
        f"axis_major_{unit}": 4 * np.sqrt(np.maximum(middle + radius, 0)),
        f"axis_minor_{unit}": 4 * np.sqrt(np.maximum(middle - radius, 0)),
        "orientation_rad": np.where(yy == xx, level, turned),
    }


def _spatial(covariance: NDArray[np.float64], unit: str) -> dict[str, NDArray[Any]]:
    known: NDArray[np.bool_] = np.asarray(np.isfinite(covariance).all(axis=(1, 2)))
    values, vectors = np.linalg.eigh(np.where(known[:, None, None], covariance, 0.0))
    lengths = np.sqrt(20 * np.maximum(values, 0))
    lengths[~known] = np.nan
    major = vectors[:, :, 2]
    nonzero = np.argmax(np.abs(major) > 1e-12, axis=1)
    major = major * np.sign(major[np.arange(len(major)), nonzero])[:, None]
    columns: dict[str, NDArray[Any]] = {
        f"axis_{name}_{unit}": lengths[:, i]
        for i, name in ((2, "major"), (1, "middle"), (0, "minor"))
    }
    columns.update({f"major_direction_{a}": major[:, i] for i, a in enumerate("zyx")})
    return columns


def equivalent_diameter(size: NDArray[np.float64], ndim: int) -> NDArray[np.float64]:
    """Diameter of the circle (ball) of an area (volume)."""
    return np.asarray((2 * ndim * size / np.pi) ** (1 / ndim))


def eccentricity(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """That of the ellipse: 0 for a circle, towards 1 for a line.

    Parameters
    ----------
    covariance : ndarray of shape (n, 2, 2)
        Of the pixels' coordinates (y, x).
    """
    axes = _planar(covariance, "px")
    major, minor = axes["axis_major_px"], axes["axis_minor_px"]
    squares = 1 - (minor / np.where(major > 0, major, 1)) ** 2
    return np.where(major > 0, np.sqrt(np.maximum(squares, 0)), 0.0)
