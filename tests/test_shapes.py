"""Boxes and scribbles of hand-made files: which pixels they are, and what is wrong with files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.annotations.shapes import ShapeFiles, Shapes, read_shapes
from pipeline.box import Box
from pipeline.companions import Companion
from pipeline.errors import MethodError
from pipeline.image import ImageInfo

HEIGHT, WIDTH = 30, 40


def info(axes: str = "yx", t: int = 1, z: int = 1) -> ImageInfo:
    shape = (t, 2, z, HEIGHT, WIDTH)
    return ImageInfo(shape, "uint8", axes, ("a", "b"), (None,) * 3, None, (1, 1, 1, HEIGHT, WIDTH))


def companion(folder: Path, text: str, name: str) -> Companion:
    (folder / name).write_text(text)
    return Companion(str(folder / name), text)


def read(
    folder: Path,
    text: str,
    name: str = "b.csv",
    image: ImageInfo | None = None,
    background: Companion | None = None,
) -> Shapes:
    files = ShapeFiles(companion(folder, text, name), background, image or info(), "image")
    return read_shapes(files)


def boxes(folder: Path, *given: object, **named: object) -> list[list[int]]:
    return read(folder, *given, **named).boxes.tolist()


def marked(shapes: Shapes) -> dict[tuple[int, int], bool]:
    """Pixels (y, x) of the first frame, and whether they are foreground."""
    places = zip(*np.divmod(shapes.marked, WIDTH), strict=True)
    return {(int(y), int(x)): bool(f) for (y, x), f in zip(places, shapes.foreground, strict=True)}


def feature(kind: str, places: object, plane: object = None, **properties: object) -> dict:
    geometry = {"type": kind, "coordinates": places, **({"plane": plane} if plane else {})}
    return {"type": "Feature", "geometry": geometry, "properties": properties or None}


def collection(*features: object) -> str:
    return json.dumps({"type": "FeatureCollection", "features": features})


def square(y: float, x: float, side: float) -> list[list[list[float]]]:
    return [[[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]]


def test_a_table_is_half_open_and_clipped_at_the_image(tmp_path: Path) -> None:
    text = "id,x_start,x_stop,y_start,y_stop\n7,3,10,1,2\n8,-4,99,20,31\n9,0.5,1.5,2.9,3\n"
    assert boxes(tmp_path, text) == [[0, 1, 3, 2, 10], [0, 20, 0, 30, 40], [0, 2, 0, 3, 2]]


def test_frames_are_columns(tmp_path: Path) -> None:
    text = "t,z,y_start,x_start,y_stop,x_stop\n2,3,0,0,1,1\n0,1,0,0,1,1\n"
    assert boxes(tmp_path, text, image=info("tczyx", t=3, z=4)) == [
        [11, 0, 0, 1, 1],
        [1, 0, 0, 1, 1],
    ]


NAPARI = "index,shape-type,vertex-index,axis-0,axis-1\n"


def test_napari_counts_from_the_middle_of_a_pixel(tmp_path: Path) -> None:
    text = NAPARI + (
        "0,rectangle,0,2.0,5.0\n0,rectangle,1,2.0,9.0\n0,rectangle,2,7.0,9.0\n0,rectangle,3,7,5\n"
        "1,ellipse,0,2.6,5.4\n1,ellipse,1,2.6,9.4\n1,ellipse,2,7.4,9.4\n1,ellipse,3,7.4,5.4\n"
        "3,polygon,0,4.5,4.5\n3,polygon,1,6.5,3.5\n3,polygon,2,4.5,8.5\n"
    )
    assert boxes(tmp_path, text) == [[0, 2, 5, 8, 10], [0, 3, 5, 8, 10], [0, 5, 4, 7, 9]]


def test_napari_paths_are_scribbles_of_the_foreground(tmp_path: Path) -> None:
    text = NAPARI + "0,path,0,2.4,5\n0,path,1,2,8\n0,path,2,4,8\n1,line,0,10,1\n1,line,1,12,3\n"
    found = read(tmp_path, text)
    bent = [(2, 5), (2, 6), (2, 7), (2, 8), (3, 8), (4, 8)]
    assert marked(found) == dict.fromkeys([*bent, (10, 1), (11, 2), (12, 3)], True)
    assert len(found.boxes) == 0


def test_napari_axes_are_those_of_the_image(tmp_path: Path) -> None:
    text = "index,shape-type,vertex-index,axis-0,axis-1,axis-2\n"
    text += "0,rectangle,0,2,0,0\n0,rectangle,1,2,3,3\n"
    assert boxes(tmp_path, text, image=info("zyx", z=4)) == [[2, 0, 0, 4, 4]]
    with pytest.raises(MethodError, match="shape of index 0 lies in several planes"):
        read(tmp_path, text.replace("1,2,3,3", "1,1,3,3"), image=info("zyx", z=4))


def test_geojson_counts_from_the_corner(tmp_path: Path) -> None:
    text = collection(
        feature("Polygon", square(2, 5, 4)),
        feature("Polygon", square(2.9, 5.1, 4)),
        feature("MultiPolygon", [square(0, 0, 1), square(3, 7, 2)], name="cell"),
        feature("Point", [1, 1]),
        feature("Polygon", square(-3, 38, 9), {"z": 1, "t": 1}),
        {"geometry": None},
    )
    assert boxes(tmp_path, text, "b.geojson", info("tzyx", 2, 3)) == [
        [0, 2, 5, 6, 9],
        [0, 2, 5, 7, 10],
        [0, 0, 0, 5, 9],
        [4, 0, 38, 6, 40],
    ]


def test_geojson_lines_mark_what_they_are_called(tmp_path: Path) -> None:
    text = collection(
        feature("LineString", [[1.9, 3.2], [4, 3]], name="Background"),
        feature("MultiLineString", [[[0, 0], [1, 0]], [[9, 9], [9.5, 9.5]]]),
        feature("LineString", [[20, 20], [21, 20]], classification={"name": "BACKGROUND "}),
        feature("LineString", [[25, 20], [25, 21]], classification={"name": "Tumor"}, name="x"),
    )
    found = marked(read(tmp_path, text, "b.json"))
    dark = [(3, 1), (3, 2), (3, 3), (3, 4), (20, 20), (20, 21)]
    bright = [(0, 0), (0, 1), (9, 9), (20, 25), (21, 25)]
    assert found == dict.fromkeys(dark, False) | dict.fromkeys(bright, True)


def test_a_second_file_marks_background_which_wins(tmp_path: Path) -> None:
    dark = companion(tmp_path, NAPARI + "0,line,0,5,5\n0,line,1,5,7\n", "dark.csv")
    text = NAPARI + "0,path,0,4,6\n0,path,1,6,6\n1,rectangle,0,1,1\n1,rectangle,1,8,8\n"
    found = read(tmp_path, text, background=dark)
    expected = {(4, 6): True, (6, 6): True, (5, 5): False, (5, 6): False, (5, 7): False}
    assert marked(found) == expected
    assert found.boxes.tolist() == [[0, 1, 1, 9, 9]]
    bright, black = found.marks(0, Box((1, 6), (6, 9)), (HEIGHT, WIDTH))
    assert bright.tolist() == [[3], [0]]
    assert black.tolist() == [[4, 4], [0, 1]]


def test_marks_are_those_of_the_frame(tmp_path: Path) -> None:
    lines = [feature("LineString", [[k, 2], [k, 3]], {"z": k}) for k in range(3)]
    found = read(tmp_path, collection(*lines), "b.json", info("zyx", z=3))
    for frame in range(3):
        bright, dark = found.marks(frame, Box((0, 0), (30, 40)), (30, 40))
        assert bright.tolist() == [[2, 3], [frame, frame]]
        assert dark.size == 0


def test_scribbles_end_at_the_image(tmp_path: Path) -> None:
    text = collection(feature("LineString", [[38.5, 4.5], [1e12, 4.5]]))
    assert marked(read(tmp_path, text, "b.json")) == {(4, 38): True, (4, 39): True}


def test_no_shapes_are_no_error(tmp_path: Path) -> None:
    assert boxes(tmp_path, "y_start,x_start,y_stop,x_stop\n") == []
    assert boxes(tmp_path, NAPARI) == []
    assert boxes(tmp_path, "[]", "b.json") == []


HEADER = "y_start,x_start,y_stop,x_stop\n"


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        (
            HEADER + "1,1,2,2\n1,40,2,50\n",
            "b.csv",
            r"box 2 of .*b\.csv is at t 0, z 0, y 1 to 2, x 40",
        ),
        (HEADER + "-9,1,0,2\n", "b.csv", r"outside the image of \(t, z, y, x\) = \(1, 1, 30, 40\)"),
        (HEADER + "1e300,1,2e300,2\n", "b.csv", r"box 1 of .* outside the image"),
        ("t," + HEADER + "1,1,1,2,2\n", "b.csv", r"box 1 of .*b\.csv is at t 1"),
        (HEADER + "1,1,2,2\n5,5,5,9\n", "b.csv", r"box 2 of .*b\.csv holds no pixel: y 5 to 5"),
        (HEADER + "1,1,2,2\n9,5,5,9\n", "b.csv", r"b\.csv, line 3: the box ends before it starts"),
        (HEADER + "1,1,2,two\n", "b.csv", r"line 2: x_stop is 'two', not a number"),
        (HEADER + "1,1,2\n", "b.csv", r"line 2: x_stop is '', not a number"),
        (HEADER + "1,1,2,nan\n", "b.csv", r"line 2: x_stop is 'nan', not a number"),
        ("y,x\n1,2\n", "b.csv", r"no column 'y_start', only y, x\. Needed are y_start, x_start"),
        ("", "b.csv", r"no column 'y_start'"),
        ("shape-type,axis-0,axis-1\n", "b.csv", r"no column 'index'"),
        ("index,shape-type,axis-0,axis-1,axis-2\n", "b.csv", r"has 3 axes, the image has yx"),
        (NAPARI + "0,line,0,50,50\n", "b.csv", r"scribble 1 of .* y 50 to 51, x 50 to 51, outside"),
        ("{", "b.json", r"is no GeoJSON collection"),
        (
            collection(feature("Polygon", [[["a", 1]]])),
            "b.json",
            r"feature 1 of .* no pair of numbers",
        ),
        (collection(feature("Polygon", [])), "b.json", r"feature 1 of .* no pair of numbers"),
        (
            collection(feature("LineString", [1, 2])),
            "b.json",
            r"feature 1 of .* no pair of numbers",
        ),
        (
            collection(feature("LineString", [[1, float("inf")]])),
            "b.json",
            r"feature 1 of .* no pair of numbers",
        ),
        (
            collection(feature("Polygon", square(1, 1, 3), name="background")),
            "b.json",
            r"feature 1 of .* is a Polygon of background\. Mark background by lines",
        ),
    ],
)
def test_bad_files_are_explained(tmp_path: Path, text: str, name: str, message: str) -> None:
    with pytest.raises(MethodError, match=message):
        read(tmp_path, text, name)


def test_frames_that_are_not_said_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(MethodError, match=r"does not say z, and the image has 4 of them"):
        read(tmp_path, HEADER + "1,1,2,2\n", image=info("zyx", z=4))


def test_boxes_are_no_background(tmp_path: Path) -> None:
    dark = companion(tmp_path, HEADER + "1,1,2,2\n", "dark.csv")
    with pytest.raises(MethodError, match=r"dark\.csv holds a box, but background is marked by"):
        read(tmp_path, HEADER, background=dark)


def test_ten_thousand_boxes_are_read_in_a_moment(tmp_path: Path) -> None:
    rows = "".join(f"{k % 20},{k % 30},{k % 20 + 5},{k % 30 + 5}\n" for k in range(10_000))
    found = boxes(tmp_path, HEADER + rows)
    assert len(found) == 10_000
    assert found[9_999] == [0, 19, 9, 24, 14]
