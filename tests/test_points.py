"""Points of hand-made files: where they lie, and what is wrong with bad files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.annotations.points import read_points
from pipeline.companions import Companion
from pipeline.errors import MethodError
from pipeline.image import ImageInfo


def info(axes: str = "yx", t: int = 1, z: int = 1) -> ImageInfo:
    shape = (t, 2, z, 30, 40)
    return ImageInfo(shape, "uint8", axes, ("a", "b"), (None,) * 3, None, (1, 1, 1, 30, 40))


def points(folder: Path, text: str, image: ImageInfo | None = None, name: str = "p.csv") -> list:
    path = folder / name
    path.write_text(text)
    return read_points(Companion(str(path), text), image or info(), "image").tolist()


def test_a_table_has_pixels_by_nearest_middle_each_once(tmp_path: Path) -> None:
    text = "id;x;y\n1;3.4;7\n2;2.5;-0.5\n3;3;7\n"
    assert points(tmp_path, text) == [[0, 0, 7, 3], [0, 0, 0, 3]]


def test_frames_are_columns(tmp_path: Path) -> None:
    stack = info("tczyx", t=3, z=4)
    assert points(tmp_path, "t,z,y,x\n2,3,1,1\n", stack) == [[2, 3, 1, 1]]


def test_napari_axes_are_those_of_the_image(tmp_path: Path) -> None:
    text = "index,axis-0,axis-1,axis-2\n0,2.0,5.4,6.6\n"
    assert points(tmp_path, text, info("tcyx", t=3)) == [[2, 0, 5, 7]]
    assert points(tmp_path, text, info("zyx", z=3)) == [[0, 2, 5, 7]]
    assert points(tmp_path, "index,axis-0,axis-1\n0,1,2\n") == [[0, 0, 1, 2]]


def test_geojson_counts_from_the_corner(tmp_path: Path) -> None:
    features = [
        {"geometry": {"type": "Point", "coordinates": [3.9, 7.0]}},
        {"geometry": {"type": "MultiPoint", "coordinates": [[0.5, 1.5], [2, 2]]}},
        {"geometry": {"type": "Point", "coordinates": [1, 1], "plane": {"z": 2, "t": 1}}},
        {"geometry": {"type": "Polygon", "coordinates": []}},
        {"geometry": None},
    ]
    text = json.dumps({"type": "FeatureCollection", "features": features})
    found = points(tmp_path, text, info("tzyx", 2, 3), "p.geojson")
    assert found == [[0, 0, 7, 3], [0, 0, 1, 0], [0, 0, 2, 2], [1, 2, 1, 1]]


def test_no_points_are_no_error(tmp_path: Path) -> None:
    assert points(tmp_path, "y,x\n") == []
    assert points(tmp_path, "[]", name="p.json") == []


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        (
            "y,x\n1,2\n3,40\n",
            "p.csv",
            r"point 2 of .*p\.csv is at \(t, z, y, x\) = \(0, 0, 3, 40\)",
        ),
        ("y,x\n1,two\n", "p.csv", r"p\.csv, line 2: x is 'two', not a number"),
        ("y,x\n1\n", "p.csv", r"line 2: x is '', not a number"),
        ("a,b\n1,2\n", "p.csv", r"no column 'y', only a, b\. Needed are y, x"),
        ("", "p.csv", r"no column 'y'"),
        ("axis-0,axis-1,axis-2\n1,2,3\n", "p.csv", r"has 3 axes, the image has yx"),
        ("{", "p.json", r"is no GeoJSON collection"),
        ('{"features": 3}', "p.json", r"is no GeoJSON collection"),
        (
            '[{"geometry": {"type": "Point", "coordinates": ["a", 1]}}]',
            "p.json",
            r"a point that is no pair of numbers",
        ),
    ],
)
def test_bad_files_are_explained(tmp_path: Path, text: str, name: str, message: str) -> None:
    with pytest.raises(MethodError, match=message):
        points(tmp_path, text, name=name)


def test_frames_that_are_not_said_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(MethodError, match=r"does not say z, and the image has 4 of them"):
        points(tmp_path, "y,x\n1,2\n", info("zyx", z=4))
