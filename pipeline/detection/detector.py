"""What looks for objects in a window."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from numpy.typing import NDArray

from pipeline.box import Box
from pipeline.detection.detections import Detections


class Detector(ABC):
    """A detector; it travels to the workers, so it is small and can be pickled.

    What it gives must be a pure function of what it is given. Of an object that the window holds
    whole, with `Detect.context_px` around it, the anchor must not depend on the window.
    """

    #: Origins of windows are multiples of it, and so are ends that lie behind the frame's.
    stride_px: ClassVar[int] = 1

    @abstractmethod
    def detect(self, pixels: NDArray[Any], window: Box, block: Box, frame: Box) -> Detections:
        """Objects of a window.

        Parameters
        ----------
        pixels : ndarray of shape (C, \\*window)
            Preprocessed. Behind the frame's end its last pixels are repeated.
        window : Box
            In the frame; its far end may lie behind the frame's.
        block : Box
            The part of the window whose objects are wanted: those of which the anchor lies in it.
            Others may be left out.
        frame : Box

        Returns
        -------
        Detections
            Positions in the frame; masks lie within it.
        """
