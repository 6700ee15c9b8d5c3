"""Names, units and chunks out of TIFF dialects."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
import tifffile

from pipeline.sources.channel_names import unique_names
from pipeline.sources.tiff_layout import LayoutError, lay_out
from pipeline.sources.units import micrometres, seconds

IMAGE = np.zeros((2, 3, 4, 20, 30), "uint16")


def test_ome_names_and_units(tmp_path, open_path):
    metadata = {
        "axes": "TCZYX",
        "PhysicalSizeX": 250.0,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 0.25,
        "PhysicalSizeZ": 0.002,
        "PhysicalSizeZUnit": "mm",
        "TimeIncrement": 2.0,
        "TimeIncrementUnit": "min",
        "Channel": {"Name": ["DAPI", "GFP", "DAPI"]},
    }
    tifffile.imwrite(tmp_path / "a.ome.tif", IMAGE, metadata=metadata, photometric="minisblack")
    info = open_path(tmp_path / "a.ome.tif").info
    assert info.channels == ("DAPI", "GFP", "DAPI_2")
    assert info.pixel_size_um == pytest.approx((2.0, 0.25, 0.25))
    assert info.time_step_s == 120
    assert info.axes == "tczyx"
    assert json.dumps(asdict(info))


def test_a_pixel_size_in_pixels_is_none(tmp_path, open_path):
    metadata = {"axes": "YX", "PhysicalSizeX": 1.0, "PhysicalSizeXUnit": "pixel"}
    tifffile.imwrite(tmp_path / "a.ome.tif", IMAGE[0, 0, 0], metadata=metadata)
    assert open_path(tmp_path / "a.ome.tif").info.pixel_size_um == (None, None, None)


def test_metadata_of_the_second_ome_image(tmp_path, open_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tif:
        for size in (0.1, 0.2):
            tif.write(IMAGE[0, 0, 0], metadata={"axes": "YX", "PhysicalSizeX": size})
    for series, size in (("0", 0.1), ("1", 0.2)):
        assert open_path(tmp_path / "a.ome.tif", series).info.pixel_size_um[2] == size


@pytest.mark.parametrize("unit", ["um", "micron", "\\u00B5m"])
def test_imagej_units(tmp_path, open_path, unit):
    tifffile.imwrite(
        tmp_path / "a.tif",
        IMAGE.transpose(0, 2, 1, 3, 4),
        imagej=True,
        resolution=(1 / 0.25, 1 / 0.5),
        metadata={"axes": "TZCYX", "unit": unit, "spacing": 1.5, "finterval": 3.0},
    )
    info = open_path(tmp_path / "a.tif").info
    assert info.pixel_size_um == pytest.approx((1.5, 0.5, 0.25))
    assert info.time_step_s == 3
    assert info.channels == ("0", "1", "2")


@pytest.mark.parametrize("unit", ["inch", "pixel", ""])
def test_imagej_print_units_are_no_scale(tmp_path, open_path, unit):
    tifffile.imwrite(
        tmp_path / "a.tif",
        IMAGE[0, 0, 0],
        imagej=True,
        resolution=(72, 72),
        metadata={"unit": unit},
    )
    assert open_path(tmp_path / "a.tif").info.pixel_size_um == (None, None, None)


@pytest.mark.parametrize("unit", ["INCH", "CENTIMETER"])
def test_plain_resolution_is_no_pixel_size(tmp_path, open_path, unit):
    tifffile.imwrite(
        tmp_path / "a.tif", IMAGE[0, 0, 0], resolution=(72, 72), resolutionunit=unit, metadata=None
    )
    assert open_path(tmp_path / "a.tif").info.pixel_size_um == (None, None, None)


def test_chunks_are_what_is_stored_together(tmp_path, open_path):
    image = np.zeros((100, 90), "uint8")
    for options, chunks in (
        ({}, (1, 1, 1, 1, 90)),
        ({"compression": "lzw", "rowsperstrip": 16}, (1, 1, 1, 16, 90)),
        ({"compression": "lzw", "tile": (32, 48)}, (1, 1, 1, 32, 48)),
    ):
        tifffile.imwrite(tmp_path / "a.tif", image, **options)
        assert open_path(tmp_path / "a.tif").info.chunks == chunks


def test_the_fingerprint_follows_content_and_time(tmp_path, open_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, IMAGE[0, 0, 0])
    first = open_path(path).fingerprint()
    assert open_path(path).fingerprint() == first
    status = path.stat()
    tifffile.imwrite(path, IMAGE[0, 0, 0] + 1)
    import os

    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert open_path(path).fingerprint() != first


@pytest.mark.parametrize(
    ("axes", "shape", "want", "names"),
    [
        ("YX", (5, 6), (1, 1, 1, 5, 6), "yx"),
        ("IYX", (4, 5, 6), (1, 1, 4, 5, 6), "zyx"),
        ("QYX", (4, 5, 6), (1, 1, 4, 5, 6), "zyx"),
        ("IZYX", (1, 4, 5, 6), (1, 1, 4, 5, 6), "zyx"),
        ("IZYX", (4, 1, 5, 6), (1, 1, 4, 5, 6), "zyx"),
        ("AYXS", (1, 5, 6, 3), (1, 3, 1, 5, 6), "cyx"),
        ("TCSYX", (2, 2, 3, 5, 6), (2, 6, 1, 5, 6), "tcyx"),
        ("TZCYXS", (1, 1, 1, 5, 6, 1), (1, 1, 1, 5, 6), "tczyx"),
    ],
)
def test_layout(axes, shape, want, names):
    layout = lay_out(axes, shape)
    assert (layout.shape, layout.axes) == (want, names)


@pytest.mark.parametrize(
    ("axes", "shape"),
    [
        ("IZYX", (2, 3, 5, 6)),
        ("QQYX", (2, 3, 5, 6)),
        ("PYX", (2, 5, 6)),
        ("XY", (5, 6)),
        ("YXZ", (5, 6, 3)),
        ("SYXS", (3, 5, 6, 3)),
    ],
)
def test_layouts_that_are_refused(axes, shape):
    with pytest.raises(LayoutError):
        lay_out(axes, shape)


def test_planes_of_a_strange_order():
    """Every plane of the series is met once, where NumPy would put it."""
    layout = lay_out("ZTCYX", (4, 2, 3, 5, 6))
    index = np.arange(24).reshape(4, 2, 3)
    for t in range(2):
        for z in range(4):
            for c in range(3):
                assert list(layout.planes(t, [c], z)) == [index[z, t, c]]


def test_unique_names():
    assert unique_names(["a", "", "a", "a_2"], 5) == ("a", "1", "a_3", "a_2", "4")


def test_units():
    assert micrometres("0.5", "nm") == pytest.approx(5e-4)
    assert micrometres(1, "Å") == pytest.approx(1e-4)
    for value, unit in ((0, "um"), (-1, "um"), ("nan", "um"), ("x", "um"), (None, "um"), (1, "")):
        assert micrometres(value, unit) is None
    assert seconds(2, "ms") == pytest.approx(2e-3)


@pytest.mark.parametrize(
    ("units", "want"),
    [("", (3.0, -2.0, 10.5)), ("mm", (3000.0, -2000.0, 10500.0)), ("reference frame", (None,) * 3)],
)
def test_stage_positions_of_ome_tiff(tmp_path, open_path, units, want):
    """Of the first plane, wherever the XML lists it."""
    attributes = {f"Position{a}": [8.0, v] for a, v in zip("XYZ", (10.5, -2.0, 3.0), strict=True)}
    planes = {"TheZ": [1, 0], "TheC": [0, 0], "TheT": [0, 0], **attributes}
    if units:
        planes |= {f"Position{a}Unit": [units] * 2 for a in "XYZ"}
    image = np.zeros((2, 8, 9), "uint8")
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, image, metadata={"axes": "ZYX"}, photometric="minisblack")
    listed = "".join(
        "<Plane " + " ".join(f'{key}="{values[i]}"' for key, values in planes.items()) + "/>"
        for i in range(2)
    )
    xml = tifffile.tiffcomment(path).replace("</Pixels>", f"{listed}</Pixels>")
    tifffile.tiffcomment(path, xml.encode())
    with open_path(path) as source:
        assert source.info.origin_um == want


def test_images_without_a_position_have_none(tmp_path, open_path):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, np.zeros((8, 9), "uint8"))
    with open_path(path) as source:
        assert source.info.origin_um == (None, None, None)
