"""Why an image is not taken, in the same words for a run and for `inspect`."""

from __future__ import annotations

from pipeline.errors import ImageError, MethodError, UnreadableError
from pipeline.image import ImageInfo
from pipeline.sources.base import SourceSpec


def require_pixels(info: ImageInfo, path: str) -> None:
    """Refuse an image without any pixel.

    Raises
    ------
    MethodError
        One of its sizes is 0.
    """
    if 0 in info.shape:
        raise MethodError(path, f"the image is empty: its shape is {info.shape}")


def refusal(spec: SourceSpec, error: Exception) -> ImageError:
    """What is said where opening a file raised; it costs that file alone, whatever it was."""
    if isinstance(error, ImageError):
        return error.alone()
    said = str(error)
    if isinstance(error, LookupError | TypeError | AttributeError | RecursionError) or not said:
        said = f"what it says of itself is not understood: {type(error).__name__} {said}".strip()
    return UnreadableError(
        spec.path, f"cannot be opened ({said})", "Check that the copy is complete."
    )
