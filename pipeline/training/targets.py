"""What a network is to give for labels: classes, borders, distances, flows.

Distances are found in whole frames, for a crop cuts objects; borders follow from a patch and one
pixel around it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.nets.heads import DistanceHead, Head
from pipeline.training.geometry import Places
from pipeline.training.losses.border_weights import border_weights
from pipeline.training.losses.terms import BorderWeights
from pipeline.training.object_boxes import object_boxes

Floats = NDArray[np.float32]
Objects = NDArray[np.int32]
Classes = NDArray[np.int16]

#: Px around a patch that borders look at.
MARGIN_PX = 1
#: A class that is not known.
UNKNOWN = -1


def distance_key(head: DistanceHead) -> str:
    """Name of the map of a head's distances."""
    return f"distance {head.unit}"


def whole_maps(
    objects: Objects, heads: Iterable[Head], weights: Iterable[BorderWeights]
) -> dict[str, Floats]:
    """Maps of a frame that heads and losses need, by name.

    Parameters
    ----------
    objects : ndarray of shape (\\*S), int32
    heads : iterable of Head
    weights : iterable of BorderWeights

    Returns
    -------
    dict of ndarrays of shape (\\*S), float32
    """
    found = {
        distance_key(head): distances(objects, head.unit == "normalised")
        for head in heads
        if isinstance(head, DistanceHead)
    }
    for rule in weights:
        found[rule.key] = border_weights(objects, rule.w0, rule.sigma_px)
    return found


def distances(objects: Objects, normalised: bool) -> Floats:
    """Distance in px from each pixel to the nearest pixel outside of its object; 0 outside.

    Parameters
    ----------
    objects : ndarray of shape (\\*S), int32
    normalised : bool
        Divide by the largest distance of each object.

    Returns
    -------
    ndarray of shape (\\*S), float32
        The end of the frame is no edge: what is cut there goes on.
    """
    found = np.zeros(objects.shape, np.float32)
    for number, box in object_boxes(objects):
        near = tuple(slice(max(0, s.start - 1), s.stop + 1) for s in box)
        own = objects[near] == number
        if own.all():  # it fills the frame
            inside = np.ones(own.shape, np.float32)
        else:
            inside = ndimage.distance_transform_edt(own).astype(np.float32)
        if normalised:
            inside /= inside.max()
        found[near] = np.where(own, inside, found[near])
    return found


def middles(objects: Objects) -> NDArray[np.float32]:
    """Mean place (y, x) or (z, y, x) of the pixels of each object, of shape (1 + n, D); row 0 is
    nothing's."""
    flat = objects.ravel()
    count = np.maximum(np.bincount(flat), 1)
    columns = [
        np.bincount(flat, weights=grid.ravel()) / count
        for grid in np.indices(objects.shape, np.float32)
    ]
    return np.stack(columns, axis=-1).astype(np.float32)


def borders(objects: Objects) -> Classes:
    """0 background, 1 inside, 2 border: pixels of an object that have a neighbour (by a face) of
    another or of none. Ends of the array are no border."""
    edge = np.zeros(objects.shape, bool)
    for axis in range(objects.ndim):
        low = tuple(slice(None, -1) if k == axis else slice(None) for k in range(objects.ndim))
        high = tuple(slice(1, None) if k == axis else slice(None) for k in range(objects.ndim))
        differ = objects[low] != objects[high]
        edge[low] |= differ
        edge[high] |= differ
    return np.where(objects > 0, 1 + edge, 0).astype(np.int16)


def flows(objects: Objects, middle: Floats, places: Places) -> Floats:
    """Unit vectors from each pixel of a patch to the middle of its object, of shape (D, \\*P).

    Parameters
    ----------
    objects : ndarray of shape (\\*P), int32
        Of the patch.
    middle : ndarray of shape (1 + n, D), float32
        As `middles` gives it, in px of the frame.
    places : Places
        Of the patch; its matrix takes vectors back.
    """
    way = np.moveaxis(middle[objects], -1, 0) - places.points
    back = np.linalg.inv(places.matrix).astype(np.float32)
    turned = np.tensordot(back, way, 1)
    length = np.sqrt((turned**2).sum(axis=0))
    known = (objects > 0) & (length > 0.5)
    return np.where(known, turned / np.maximum(length, np.float32(1e-6)), 0).astype(np.float32)
