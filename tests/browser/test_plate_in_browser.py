"""A plate in the viewer, in a browser: stitched wells with their labels."""

from __future__ import annotations

import importlib.util
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from chromium import Browser, leaves_the_machine

from tests.plate_files import Place, write_plate

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        importlib.util.find_spec("neuroglancer") is None, reason="needs tilewright[view]"
    ),
]

#: Where a picture for the docs is written, if it is wanted.
PICTURE = os.environ.get("TILEWRIGHT_PLATE_PICTURE")
WELLS = [(row, column) for row in "AB" for column in "123"]
RECIPE = """
label: nuclei
source: {channels: [0], fields: stitched}
preprocess: [{filter: gaussian, sigma_px: 1}]
segment: {method: threshold}
output: {image: copy}
"""


@pytest.fixture(scope="module")
def out(tilewright: Any, demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six wells of two fields, a real field of nuclei cut into halves each."""
    folder = tmp_path_factory.mktemp("plate")
    montage = tifffile.imread(demo / "montage" / "sixteen_fields.ome.tif")
    fields: dict[Place, np.ndarray] = {}
    places: dict[Place, tuple[float, float]] = {}
    for number, well in enumerate(WELLS):
        y, x = divmod(number, 3)
        plane = montage[520 * y : 520 * (y + 1), 696 * x : 696 * (x + 1)]
        for half in range(2):
            fields[*well, str(half)] = plane[:, 348 * half : 348 * (half + 1)]
            places[*well, str(half)] = (0.0, 348 * half * 0.5)
    write_plate(folder / "screen.zarr", fields, "0.5", places)
    (folder / "recipe.yaml").write_text(RECIPE)
    tilewright("run", folder / "recipe.yaml", folder / "screen.zarr", folder / "out")
    return folder / "out"


def test_wells_are_opened_with_their_labels(browser: Browser, tilewright: Any, out: Path) -> None:
    process = tilewright.start("view", out, "--no-browser")
    assert process.stdout is not None
    try:
        browser.open(process.stdout.readline().strip())
        cards = browser.driver.find_elements("css selector", "a.card")
        names = [card.text.splitlines()[0] for card in cards]
        assert names == [f"screen/{row}/{column}" for row, column in WELLS]
        loaded = "return [...document.images].every(i => i.complete && i.naturalWidth > 0)"
        browser.wait(lambda: browser.driver.execute_script(loaded), "pictures in the list")
        if PICTURE:
            browser.save(Path(PICTURE))

        cards[4].click()
        browser.wait(lambda: coloured(browser).mean() > 0.02, "a well and its labels")
        labels = zarr.open_array(out / "images/screen.ome.zarr/B/2/0/labels/nuclei/0", mode="r")[
            ...
        ]
        # The middle of the window is the middle of the well, where the two fields meet; objects
        # that lie on both sides have one colour on both.
        assert set(labels[:, 347]) & set(labels[:, 348]) - {0}
        assert not [url for url in browser.requested() if leaves_the_machine(url)]
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def coloured(browser: Browser) -> np.ndarray:
    """Where the picture has a colour that is not grey."""
    pixels = browser.picture()[60:, :1090].astype(int)
    return np.ptp(pixels, axis=-1) > 30
