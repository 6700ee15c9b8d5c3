"""What the channels of a network's output mean: scores of classes, and how central a pixel is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.errors import ModelError
from pipeline.nets.card import ModelCard
from pipeline.nets.heads import BorderHead, ClassesHead, DistanceHead, FlowHead, Head

Floats = NDArray[np.float32]

#: How far away outputs can change the objectness of a pixel.
OBJECTNESS_REACH_PX = 2
#: Smallest probability whose logarithm is taken.
TINY = np.float32(1e-30)

BORDER_CLASSES = ("background", "object", "border")


def head_of(card: ModelCard, kind: type[Head]) -> Head | None:
    """The card's head of a kind, if it has one."""
    return next((head for head in card.heads if isinstance(head, kind)), None)


def class_names(card: ModelCard) -> tuple[str, ...]:
    """Names of the classes that a model tells apart.

    Raises
    ------
    ModelError
        If it has neither classes nor borders.
    """
    head = _class_head(card)
    return head.names if isinstance(head, ClassesHead) else BORDER_CLASSES


def background_class(card: ModelCard) -> int:
    """Number of the background, from 1; 0 where there is none."""
    head = _class_head(card)
    name = head.background if isinstance(head, ClassesHead) else BORDER_CLASSES[0]
    return 0 if name is None else class_names(card).index(name) + 1


def class_scores(card: ModelCard, outputs: Floats) -> Floats:
    """Scores of the card's classes: logarithms of what their probabilities are proportional to.

    Parameters
    ----------
    outputs : ndarray of shape (K, \\*S), float32

    Returns
    -------
    ndarray of shape (classes, \\*S), float32
    """
    head = _class_head(card)
    found = np.ascontiguousarray(outputs[card.head_slices()[head.head]])
    if head.activation == "sigmoid":
        return -np.logaddexp(np.float32(0), -found)
    if head.activation == "none":
        return np.log(np.maximum(found, TINY))
    return found


def objectness(card: ModelCard, outputs: Floats) -> Floats:
    """How much each pixel is the middle of an object: the heights that a watershed floods from.

    The distance to the object's edge, where the network tells it; else how fast the directions to
    the middle converge; else the probability of the object less that of its border; else that of
    all classes but the background, or of the best class where there is no background.

    Parameters
    ----------
    outputs : ndarray of shape (K, \\*S), float32

    Returns
    -------
    ndarray of shape (\\*S), float32
        Within `OBJECTNESS_REACH_PX` of the array's ends, values are not those of the whole frame.
    """
    slices = card.head_slices()
    distance = head_of(card, DistanceHead)
    if isinstance(distance, DistanceHead):
        found: Floats = outputs[slices["distance"]][0]
        if distance.activation == "sigmoid":
            found = np.reciprocal(1 + np.exp(-np.ascontiguousarray(found)), dtype=np.float32)
        return found
    if head_of(card, FlowHead) is not None:
        return _convergence(outputs[slices["flow"]])
    probability = _softmax(class_scores(card, outputs))
    if head_of(card, BorderHead) is not None:
        return np.asarray(probability[1] - probability[2])
    background = background_class(card)
    if background == 0:
        return np.asarray(probability.max(axis=0))
    return np.asarray(np.float32(1) - probability[background - 1])


def _class_head(card: ModelCard) -> ClassesHead | BorderHead:
    for head in card.heads:
        if isinstance(head, ClassesHead | BorderHead):
            return head
    kinds = ", ".join(head.head for head in card.heads)
    raise ModelError(
        f"model {card.name!r}: its heads ({kinds}) do not tell objects from background. "
        "It needs a head `classes` or `border`."
    )


def _convergence(flow: Floats) -> Floats:
    """Minus the divergence of unit vectors, smoothed: 1 / r at r px from where they meet."""
    total = np.zeros(flow.shape[1:], np.float32)
    for axis, part in enumerate(flow):
        total -= ndimage.correlate1d(part, [-0.5, 0, 0.5], axis, mode="nearest")
    for axis in range(total.ndim):
        total = ndimage.correlate1d(total, [0.25, 0.5, 0.25], axis, mode="nearest")
    return total


def _softmax(scores: Floats) -> Floats:
    raised = np.exp(scores - scores.max(axis=0))
    found: Floats = raised / raised.sum(axis=0)
    return found
