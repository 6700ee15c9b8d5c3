"""What the run says of "tiled equals untiled", in plain words."""

from __future__ import annotations

from typing import Any

from pipeline.report.wording import plural, whole


def certificate_words(record: dict[str, Any]) -> str:
    """The certificate of all published images as one or two sentences."""
    found, published = record["certificate"], int(record["counts"]["published"])
    exact = int(found["images_exact"])
    if not published:
        return "No image was published, so there is nothing to certify."
    if exact == published:
        images = "the one published image" if published == 1 else f"all {whole(published)} images"
        return (
            f"Tiling changed nothing: the labels of {images} are bit for bit those that the "
            "method gives when the whole image is one tile."
        )
    return (
        f"The labels of {whole(exact)} of {plural(published, 'published image')} are bit for bit "
        "those of the untiled image. For the others the method cannot prove that; what it "
        "measured of them is recorded with each image."
    )
