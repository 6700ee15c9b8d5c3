"""Cutting a patch out of a frame along any smooth map: pixels, labels and maps of one geometry.

A patch of shape P samples the frame at  c + A (i - (P - 1) / 2) + d(i)  for its pixel i: c is a
point of the frame, A a matrix (turn, mirror, scale), d a smooth displacement. Pixels and maps are
interpolated linearly, labels are those of the nearest pixel. Where nothing but quarter turns is
asked for, all places are whole pixels and values are copied.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.training.augmentation import Augmentation

Floats = NDArray[np.float32]
Generator = np.random.Generator


@dataclass(frozen=True)
class Places:
    """Where a patch looks.

    Parameters
    ----------
    points : ndarray of shape (D, \\*P), float32
        Places in the frame, in px; may lie outside.
    matrix : ndarray of shape (D, D), float64
        From px of the patch to px of the frame.
    zoom : float
        Px of the patch for one of the frame.
    """

    points: Floats
    matrix: NDArray[np.float64]
    zoom: float


def straight(start: Sequence[int], sides: Sequence[int]) -> Places:
    """A plain crop."""
    grid = np.indices(sides, np.float32)
    corner = np.array(start, np.float32).reshape(-1, *(1,) * len(sides))
    return Places(grid + corner, np.eye(len(sides)), 1.0)


def draw_places(
    centre: Sequence[float],
    sides: Sequence[int],
    margin_px: int,
    rule: Augmentation,
    random: Generator,
) -> Places:
    """Draw the geometry of a patch around a point.

    Parameters
    ----------
    centre : sequence of float
        Point of the frame, in px; it is rounded so that a plain crop lies on whole pixels.
    sides : sequence of int
        Of the patch.
    margin_px : int
        That the patch is grown by on every side; those pixels come first and last.
    rule : Augmentation
    random : numpy Generator
    """
    if rule.resampled < 1 and random.random() >= rule.resampled:
        rule = rule.unsampled
    matrix, zoom = _draw_matrix(len(sides), rule, random)
    grown = [n + 2 * margin_px for n in sides]
    relative = np.indices(grown, np.float32)
    middle = []
    for axis, n in enumerate(grown):
        relative[axis] -= (n - 1) / 2
        # Half pixels where the side is even.
        half = ((n - 1) / 2) % 1
        middle.append(math.floor(centre[axis] - half + 0.5) + half)
    points = np.tensordot(matrix.astype(np.float32), relative, 1)
    points += np.array(middle, np.float32).reshape(-1, *(1,) * len(grown))
    if rule.elastic_px > 0:
        points += _displacement(grown, rule, random)
    return Places(points.astype(np.float32), matrix, zoom)


def _draw_matrix(
    ndim: int, rule: Augmentation, random: Generator
) -> tuple[NDArray[np.float64], float]:
    """From the patch to the frame: planes are turned, volumes only within their planes."""
    signs = random.integers(0, 2, ndim) * 2 - 1 if rule.flips else np.ones(ndim, int)
    matrix = np.diag(signs).astype(np.float64)
    quarters = int(random.integers(4)) if rule.turns else 0
    plane = np.linalg.matrix_power(np.array([[0, -1], [1, 0]]), quarters).astype(np.float64)
    if rule.rotation_deg > 0:
        angle = math.radians(random.uniform(-rule.rotation_deg, rule.rotation_deg))
        sine, cosine = math.sin(angle), math.cos(angle)
        plane = plane @ np.array([[cosine, -sine], [sine, cosine]])
    turn = np.eye(ndim)
    turn[-2:, -2:] = plane
    low, high = rule.zoom
    zoom = math.exp(random.uniform(math.log(low), math.log(high))) if low < high else low
    return turn @ matrix / zoom, zoom


def _displacement(sides: Sequence[int], rule: Augmentation, random: Generator) -> Floats:
    knots = [math.ceil(n / rule.elastic_grid_px) + 3 for n in sides]
    coarse = random.normal(0, rule.elastic_px, (len(sides), *knots))
    grid = np.indices(sides, np.float32) / np.float32(rule.elastic_grid_px) + 1
    found = [ndimage.map_coordinates(one, grid, order=3, prefilter=False) for one in coarse]
    return np.asarray(found, np.float32)


@dataclass(frozen=True)
class Sampler:
    """Samples arrays of one frame at the same places.

    Outside the frame it goes on mirrored at its first and last pixels.
    """

    box: tuple[slice, ...]
    within: Floats
    inside: NDArray[np.bool_]

    def nearest(self, array: NDArray[Any]) -> NDArray[Any]:
        """Values (\\*P) of an array (\\*S) at the nearest pixels."""
        at = tuple(np.rint(axis).astype(np.intp) for axis in self.within)
        found: NDArray[Any] = array[self.box][at]
        return found

    def linear(self, array: NDArray[Any]) -> Floats:
        """Values (C, \\*P), float32, of an array (C, \\*S) between its pixels."""
        cut = np.asarray(array[(slice(None), *self.box)], np.float32)
        if len(self.box) == 2:
            y, x = self.within
            planes = [cv2.remap(np.ascontiguousarray(p), x, y, cv2.INTER_LINEAR) for p in cut]
            return np.stack(planes)
        return np.stack([ndimage.map_coordinates(p, self.within, order=1) for p in cut])


def sampler(places: Places, shape: Sequence[int]) -> Sampler:
    """What samples arrays of a frame of this shape."""
    mirrored, box = np.empty_like(places.points), []
    inside = np.ones(places.points.shape[1:], bool)
    for axis, n in enumerate(shape):
        points = places.points[axis]
        inside &= (points >= -0.5) & (points <= n - 0.5)
        period = np.float32(max(1, 2 * (n - 1)))
        folded = np.abs(points) % period
        folded = np.minimum(folded, period - folded) if n > 1 else np.zeros_like(points)
        first = math.floor(float(folded.min()))
        last = min(n - 1, math.ceil(float(folded.max())))
        box.append(slice(first, last + 1))
        mirrored[axis] = folded - np.float32(first)
    return Sampler(tuple(box), mirrored, inside)
