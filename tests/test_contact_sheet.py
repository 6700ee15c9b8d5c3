"""The picture of a run that goes on: complete in itself, and true to what is published."""

from __future__ import annotations

import base64
import io
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from PIL import Image

from flows.request import Request
from pipeline.recipe import parse_recipe
from pipeline.report import contact_sheet
from pipeline.run_folder import RunFolder
from tests import in_process

SVG = "{http://www.w3.org/2000/svg}"
RECIPE: dict[str, Any] = {
    "label": "cells",
    "segment": {"method": "threshold", "foreground": {"value": 100}},
}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """Fourteen small images, a large one, and one that is damaged."""
    archive = tmp_path / "in"
    archive.mkdir()
    y, x = np.indices((700, 700))
    pixels = np.where((y % 12 < 6) & (x % 12 < 6), 200, 5 + x % 7).astype(np.uint8)
    for number in range(14):
        tifffile.imwrite(archive / f"a<{number:02d}>.tif", pixels[:40, : 30 + number])
    tifffile.imwrite(archive / "large.tif", pixels)
    (archive / "bad.tif").write_bytes(b"bad")
    return in_process.segment(Request(parse_recipe(RECIPE, "r"), archive, tmp_path / "out"))


def drawn(folder: RunFolder) -> ElementTree.Element:
    with closing(folder.reading()) as manifest:
        return ElementTree.fromstring(contact_sheet.contact_sheet(manifest, folder.read_recipe()))


def words(sheet: ElementTree.Element) -> list[str]:
    return [str(one.text) for one in sheet.iter(f"{SVG}text")]


def test_published_images_are_shown_evenly(folder: RunFolder) -> None:
    sheet = drawn(folder)
    pictures = [one.attrib["href"] for one in sheet.iter(f"{SVG}image")]
    assert len(pictures) == contact_sheet.PICTURED == 12
    said = words(sheet)
    assert said[0] == "12 of 15 published images, evenly chosen"
    assert "a<00>: 12 objects" in said
    assert not any("bad" in word for word in said)
    for uri in pictures:
        kind, _, data = uri.partition(";base64,")
        assert kind in ("data:image/png", "data:image/jpeg")
        Image.open(io.BytesIO(base64.b64decode(data))).verify()


def test_an_image_that_is_gone_leaves_its_place(folder: RunFolder) -> None:
    shutil.rmtree(folder.image_path("a<00>"))
    sheet = drawn(folder)
    assert len(list(sheet.iter(f"{SVG}image"))) == 11
    assert "a<00>: 12 objects" in words(sheet)


def test_before_the_first_image_there_is_a_heading(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with folder.writing():
        folder.write_recipe(parse_recipe(RECIPE, "r").model_dump(mode="json"))
    assert words(drawn(folder)) == ["0 of 0 published images, evenly chosen"]
