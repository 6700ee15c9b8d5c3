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
    def look(self, pixels: NDArray[Any], window: Box, block: Box, frame: Box) -> Any:
        """Look at a window: all that a GPU is needed for.

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
        object
            What `objects` takes; in the memory of the CPU.
        """

    def device_name(self) -> str:
        """The device that this process looks with, for the certificate."""
        return "CPU"

    def objects(self, seen: Any) -> Detections:
        """Objects of a window, of what `look` gave; called in another thread.

        Returns
        -------
        Detections
            Positions in the frame; masks lie within it.
        """
        found: Detections = seen
        return found

    def detect(self, pixels: NDArray[Any], window: Box, block: Box, frame: Box) -> Detections:
        """Objects of a window at once; for parameters see `look`."""
        return self.objects(self.look(pixels, window, block, frame))
