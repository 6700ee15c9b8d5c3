"""Admission: open every image of an archive once, and tell what it is or why it is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.errors import ImageError
from pipeline.image import ImageInfo
from pipeline.job import check_dtype
from pipeline.sources import SourceSpec, expand, open_source
from pipeline.sources.focus import in_focus
from pipeline.sources.refusal import refusal, require_pixels


@dataclass(frozen=True, slots=True)
class Admitted:
    """An image that can be opened."""

    spec: SourceSpec
    info: ImageInfo
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that is no image for us, and why."""

    spec: SourceSpec
    error: ImageError


def admit(specs: Sequence[SourceSpec]) -> list[Admitted | Refused]:
    """Open the images of some files; a file may hold several.

    Parameters
    ----------
    specs : sequence of SourceSpec

    Returns
    -------
    list of Admitted or Refused
        In the order of `specs`.
    """
    return [item for spec in specs for item in _admit(spec)]


def _admit(spec: SourceSpec) -> list[Admitted | Refused]:
    try:
        images = expand(spec)
    except Exception as error:
        return [Refused(spec, refusal(spec, error))]
    return [_open(image) for image in images]


def _open(spec: SourceSpec) -> Admitted | Refused:
    try:
        spec = in_focus(spec)
        with open_source(spec) as source:
            info, fingerprint = source.info, source.fingerprint()
        require_pixels(info, spec.path)
        check_dtype(info, spec.path)
    except Exception as error:
        return Refused(spec, refusal(spec, error))
    return Admitted(spec, info, fingerprint)


def renamed(item: Admitted | Refused, spec: SourceSpec) -> Admitted | Refused:
    """The same image under another name."""
    return replace(item, spec=spec)
