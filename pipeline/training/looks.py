"""How a patch looks: blur, brightness, contrast, noise, colours. Labels do not change."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import hed_from_rgb, rgb_from_hed

from pipeline.training.augmentation import Augmentation

Floats = NDArray[np.float32]
#: Smallest light that passes a stain, of 1: its logarithm is taken.
DARKEST = 0.02


def vary(image: Floats, rule: Augmentation, random: np.random.Generator) -> Floats:
    """Draw how a normalised image looks.

    Parameters
    ----------
    image : ndarray of shape (C, \\*P), float32
    rule : Augmentation
    random : numpy Generator

    Returns
    -------
    ndarray of shape (C, \\*P), float32
    """
    if len(image) == 3 and (rule.stain > 0 or rule.hue_deg > 0):
        image = _colours(image, rule, random)
    if rule.blur_px > 0 and random.random() < 0.5:
        image = _blurred(image, random.uniform(0, rule.blur_px))
    if rule.invert > 0 and random.random() < rule.invert:
        image = np.float32(1) - image
    if rule.gamma > 0:
        exponent = np.float32(2 ** random.uniform(-rule.gamma, rule.gamma))
        image = np.where(image > 0, np.maximum(image, 0) ** exponent, image)
    gain = 2 ** random.uniform(-rule.gain, rule.gain) if rule.gain > 0 else 1.0
    offset = random.uniform(-rule.offset, rule.offset) if rule.offset > 0 else 0.0
    if rule.gain > 0 or rule.offset > 0:
        image = image * np.float32(gain) + np.float32(offset)
    if rule.noise > 0:
        sigma = np.float32(random.uniform(0, rule.noise))
        image = image + sigma * random.standard_normal(image.shape, np.float32)
    return np.ascontiguousarray(image, np.float32)


def _blurred(image: Floats, sigma: float) -> Floats:
    if sigma < 0.1:
        return image
    if image.ndim == 3:
        size = 2 * math.ceil(3 * sigma) + 1
        planes = [
            cv2.GaussianBlur(p, (size, size), sigma, borderType=cv2.BORDER_REFLECT) for p in image
        ]
        return np.stack(planes)
    found = ndimage.gaussian_filter(image, (0, *(sigma,) * (image.ndim - 1)))
    return np.asarray(found, np.float32)


def _colours(image: Floats, rule: Augmentation, random: np.random.Generator) -> Floats:
    if rule.stain > 0:
        scale = random.uniform(1 - rule.stain, 1 + rule.stain, 3)
        # Concentrations of hematoxylin, eosin and a rest: Ruifrok's matrix, as scikit-image has it.
        mixed = hed_from_rgb @ np.diag(scale) @ rgb_from_hed
        dense = -np.log(np.clip(image, DARKEST, None))
        passed = np.tensordot(mixed.T.astype(np.float32), dense, 1)
        image = np.exp(-passed).astype(np.float32)
    if rule.hue_deg > 0:
        angle = math.radians(random.uniform(-rule.hue_deg, rule.hue_deg))
        image = np.asarray(np.tensordot(_turn_about_grey(angle), image, 1), np.float32)
    return image


def _turn_about_grey(angle: float) -> Floats:
    """Rotation of colours about the axis from black to white (Rodrigues)."""
    axis = np.ones(3) / math.sqrt(3)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    turn = np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
    return np.asarray(turn, np.float32)
