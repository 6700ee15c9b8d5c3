"""Bad data: every problem is named before anything starts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from pipeline.errors import DataError
from pipeline.image import ImageInfo
from pipeline.pyramid import Pyramid, open_level

from .small_data import dataset, discs, recipe, save

CLASSES = {"head": "classes", "names": ["background", "disc", "ring"], "background": "background"}
CLASSED = {
    "heads": [CLASSES],
    "data": {"objects": None, "classes": "labels"},
    "sampling": {"patch_px": 32, "batch": 2, "balance": "classes"},
}


def refusal(folder: Path, **changes: object) -> list[str]:
    with pytest.raises(DataError) as caught:
        dataset(folder, recipe(**changes))
    return str(caught.value).splitlines()


def test_good_data_are_read(data: Path) -> None:
    found = dataset(data, recipe())
    assert found.images == 6
    assert len(found.train_names) + len(found.validation_names) == 6
    assert found.objects == sum(len(np.unique(discs(k)[1])) - 1 for k in range(6))
    again = dataset(data, recipe())
    assert again.digest == found.digest
    save(data / "labels" / "3.png", discs(9)[1])
    assert dataset(data, recipe()).digest != found.digest


def test_unpaired_files(data: Path) -> None:
    (data / "labels" / "1.png").unlink()
    save(data / "labels" / "extra.png", discs(0)[1])
    assert refusal(data) == [
        f"{data}: 2 problems, nothing was started:",
        "  1: there is no such file in labels",
        "  extra: is in labels, and not in images",
        "  Every image needs labels of the same name and every label image its image; "
        "`data.only` chooses by name.",
    ]


def test_wrong_sizes(data: Path) -> None:
    save(data / "labels" / "2.png", discs(2, 40)[1])
    assert refusal(data) == [
        f"{data}: 1 problem, nothing was started:",
        "  2: is 48 x 48 px, and its labels are 40 x 40 px",
        "  Labels have the size of their image, and one channel.",
    ]


def test_labels_out_of_range(data: Path) -> None:
    for k in range(6):
        save(data / "labels" / f"{k}.png", (discs(k)[1] % 3).astype(np.uint8))
    spoiled = (discs(0)[1] % 3).astype(np.uint8)
    spoiled[0, :2] = 3, 200
    save(data / "labels" / "0.png", spoiled)
    assert refusal(data, **CLASSED) == [
        f"{data}: 1 problem, nothing was started:",
        "  0: its classes hold 3, 200, and the classes are 0 to 2",
        "  Objects are whole numbers from 0, classes those of the head.",
    ]
    ignoring = {**CLASSED, "data": {"objects": None, "classes": "labels", "ignore": 200}}
    assert refusal(data, **ignoring)[1] == "  0: its classes hold 3, and the classes are 0 to 2"


def test_empty_masks(data: Path) -> None:
    for k in (1, 4):
        save(data / "labels" / f"{k}.png", np.zeros((48, 48), np.uint8))
    assert refusal(data) == [
        f"{data}: 2 problems, nothing was started:",
        "  1: its labels hold no object",
        "  4: its labels hold no object",
        "  Annotate these images, or leave them out by `data.only`; `data.allow_empty: true` "
        "takes them as images of background.",
    ]
    assert dataset(data, recipe(data={"allow_empty": True})).images == 6


def test_a_class_that_never_occurs(data: Path) -> None:
    for k in range(6):
        save(data / "labels" / f"{k}.png", (discs(k)[1] > 0).astype(np.uint8))
    assert refusal(data, **CLASSED) == [
        f"{data}: 1 problem, nothing was started:",
        "  class 'ring': occurs in no image",
        "  Give images that show it, or remove it from the head.",
    ]


def test_all_problems_are_named_at_once(data: Path) -> None:
    (data / "labels" / "0.png").unlink()
    save(data / "labels" / "1.png", discs(1, 40)[1])
    save(data / "labels" / "2.png", np.zeros((48, 48), np.uint8))
    save(data / "images" / "3.png", np.zeros((48, 48, 3), np.uint8))
    (data / "images" / "4.png").write_bytes(b"\x89PNG\r\n\x1a\n and nothing else")
    save(data / "labels" / "5.png", np.zeros((48, 48, 3), np.uint8))
    found = "\n".join(refusal(data))
    assert "6 problems" in found
    for line in (
        "  0: there is no such file in labels",
        "  1: is 48 x 48 px, and its labels are 40 x 40 px",
        "  2: its labels hold no object",
        "  3: 3 channels are selected, and the network takes 1 (dna)",
        "  4: its header is not understood",
        "  5: its labels have 3 channels",
    ):
        assert line in found


def test_many_problems_are_counted(data: Path) -> None:
    for k in range(30):
        save(data / "images" / f"more{k:02}.png", discs(k)[0])
    found = refusal(data)
    assert len([line for line in found if "no such file" in line]) == 20
    assert "  and 10 more like this" in found


def test_labels_that_are_no_whole_numbers(data: Path) -> None:
    import tifffile

    (data / "labels" / "1.png").unlink()
    tifffile.imwrite(data / "labels" / "1.tif", np.ones((48, 48), np.float32))
    assert refusal(data)[1] == "  1: its labels are float32, not whole numbers"
    tifffile.imwrite(data / "labels" / "1.tif", -np.ones((48, 48), np.int16))
    assert refusal(data)[1] == "  1: its objects have the number -1"


def test_folders_that_are_missing(data: Path, tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere")[0].endswith("Give one with `images` and `labels` in it.")
    assert "there is no folder 'truth'" in refusal(data, data={"objects": "truth"})[0]
    assert "neither a folder 'pictures'" in refusal(data, data={"images": "pictures"})[0]
    assert "no image is left" in refusal(data, data={"only": ["x*"]})[0]
    assert "1 image with labels; at least two" in refusal(data, data={"only": ["1"]})[0]


def test_ome_zarr_images_with_labels(tmp_path: Path) -> None:
    """The same pixels and labels in OME-Zarr give the same frames."""
    for k in range(3):
        path = tmp_path / "data" / "plate" / f"{k}.ome.zarr"
        image, labels = discs(k)
        _write(path, "image", image)
        zarr.open_group(str(path / "labels"), mode="w", zarr_format=3).attrs["ome"] = {
            "version": "0.5",
            "labels": ["nuclei"],
        }
        _write(path / "labels" / "nuclei", "labels", labels)
    missing = {"source": {"missing_chunks": "fill"}}
    found = dataset(tmp_path / "data", recipe(**missing))
    assert found.images == 3
    assert sorted(found.train_names + found.validation_names) == [
        "plate/0",
        "plate/1",
        "plate/2",
    ]
    for frame in found.train:
        image, labels = discs(int(frame.image[-1]))
        assert np.array_equal(frame.pixels[0], image)
        assert frame.objects is not None
        assert np.array_equal(frame.objects > 0, labels > 0)
    named = recipe(data={"objects": "labels/cells"}, **missing)
    with pytest.raises(DataError, match=r"has no label image 'labels/cells' \(it has: nuclei\)"):
        dataset(tmp_path / "data", named)


def _write(path: Path, kind: str, array: np.ndarray) -> None:
    shape = (1, 1, 1, *array.shape)
    info = ImageInfo(shape, array.dtype.name, "yx", ("0",), (None,) * 3, None, shape)
    pyramid = Pyramid(str(path), kind, info, info.dtype, 2, 1)  # type: ignore[arg-type]
    pyramid.create()
    open_level(pyramid.path, 0)[...] = array
    pyramid.write_metadata({})
