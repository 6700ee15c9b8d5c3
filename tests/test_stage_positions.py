"""Fields whose files say where the stage was: one image, in which nothing is cut."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile

from flows.request import Request
from pipeline.box import Box
from pipeline.errors import RecipeError, UnreadableError
from pipeline.labels_recipe import parse_any_recipe
from pipeline.sources import open_source
from pipeline.sources.archive import expand
from pipeline.sources.base import SourceSpec
from pipeline.sources.parts import Layout, Part
from pipeline.sources.spec_json import spec_from_json, spec_to_json
from tests.in_process import digests, segment
from tests.plate_files import write_plate

PIXEL_UM = 0.5


def scene() -> np.ndarray:
    """A plane with one object on the border of two fields, and one in each."""
    image = np.zeros((60, 100), "u2")
    image[20:32, 44:58] = 900
    image[5:12, 6:15] = 700
    image[40:52, 80:93] = 800
    return image


def write_field(path, image: np.ndarray, x: float, y: float = 0, unit: str = "µm") -> None:
    plane = {"PositionX": [x * PIXEL_UM], "PositionY": [y * PIXEL_UM]}
    units = {"PositionXUnit": [unit], "PositionYUnit": [unit]}
    sizes = {"PhysicalSizeX": PIXEL_UM, "PhysicalSizeY": PIXEL_UM}
    meta = {"axes": "YX", "Plane": {**plane, **units}, **sizes}
    tifffile.imwrite(path, image, ome=True, metadata=meta)


@pytest.mark.parametrize("tile", [16, 64, 2048])
def test_ome_tiff_fields_are_put_where_the_stage_was(tmp_path, tile):
    archive, image = tmp_path / "archive", scene()
    (archive / "scan").mkdir(parents=True)
    # The names tell nothing: the field on the right comes first.
    write_field(archive / "scan" / "a.ome.tif", image[:, 50:], 50)
    write_field(archive / "scan" / "b.ome.tif", image[:, :50], 0)
    recipe = parse_any_recipe(
        {
            "label": "spots",
            "source": {"files": "{field}.ome.tif", "fields": "stitched"},
            "segment": {"method": "threshold", "foreground": {"value": 100}},
        },
        "test",
    )
    asked = Request(recipe, archive, tmp_path / "out", tile_px=tile)
    folder = segment(asked, small=False)
    (name,), _ = digests(folder)
    assert "published" in name
    table = pq.read_table(folder.objects).to_pydict()
    assert table["area_px"] == [7 * 9, 12 * 14, 12 * 13]
    place = next(folder.images.rglob("*.ome.zarr"))
    with open_source(SourceSpec("ome_zarr", str(place / "labels" / "spots"), "l")) as labels:
        found = labels.read(0, [0], Box.whole(labels.info.shape[2:]))[0, 0]
    assert found.shape == image.shape
    np.testing.assert_array_equal(found > 0, image > 100)


def scan(folder, *places, unit: str = "µm", **layout) -> SourceSpec:
    """A spec of fields of 8 x 10 px at (y, x) in px, each full of its number from 1."""
    for k, (y, x) in enumerate(places):
        write_field(folder / f"{k}.ome.tif", np.full((8, 10), k + 1, "u2"), x, y, unit)
    parts = [
        Part(SourceSpec("tiff", str(folder / f"{k}.ome.tif"), str(k))) for k in range(len(places))
    ]
    first = parts[0].spec.path
    return SourceSpec("composed", first, "scan", parts=tuple(parts), layout=Layout(**layout))


def corners(spec: SourceSpec) -> list[tuple[int, ...]]:
    (found,) = expand(spec)
    return [part.offset[-2:] for part in found.parts]


@pytest.mark.parametrize("y", [1, -1])
def test_a_stitched_image_lies_where_its_top_left_pixel_does(tmp_path, y):
    # The first field is not the top left one; without the last one no field is.
    places = [(100, 110), (100 + 8 * y, 100), (100, 100)]
    for count in (3, 2):
        (spec,) = expand(scan(tmp_path, *places[:count], y=y))
        for known in (spec, spec_from_json(spec_to_json(spec))):
            with open_source(known) as source:
                assert source.info.origin_um == (None, 50.0, 50.0)


@pytest.mark.parametrize("far", [1e300, -1e308, 1e7])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_field_that_is_nowhere_is_named_with_its_position(tmp_path, far, at):
    places = [(0.0, 0.0), (0.0, 10.0), (8.0, 0.0)]
    places[at] = (0.0, far)
    said = rf"{at}\.ome\.tif: lies at y 0 um, x {far * PIXEL_UM:g} um on".replace("+", r"\+")
    with pytest.raises(UnreadableError, match=said) as caught:
        expand(scan(tmp_path, *places))
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("bad", ["NaN", "Infinity", "-1e999"])
@pytest.mark.parametrize("fields", ["apart", "stitched"])
def test_a_translation_that_is_no_number_costs_its_field_or_well(tmp_path, bad, fields):
    places = [("A", "1", "0"), ("A", "1", "1"), ("A", "2", "0")]
    pixels = {place: np.full((8, 10), 9, "u1") for place in places}
    stage = {places[0]: (0.0, 0.0), places[1]: (0.0, 777.0)}
    archive = write_plate(tmp_path / "p.zarr", pixels, positions=stage)
    attributes = archive / "A/1/1/.zattrs"
    attributes.write_text(attributes.read_text().replace("777.0", bad))
    recipe = parse_any_recipe(
        {"source": {"fields": fields}, "segment": {"method": "threshold"}}, "test"
    )
    folder = segment(Request(recipe, archive, tmp_path / "out"), small=False)
    manifest = folder.reading()
    found = {row.name: (row.status, str(row.reason)) for row in manifest.images()}
    manifest.close()
    wrong = "p/A/1" if fields == "stitched" else "p/A/1/1"
    assert [name for name, (status, _) in found.items() if status != "published"] == [wrong]
    value = {"NaN": "nan", "Infinity": "inf", "-1e999": "-inf"}[bad]
    assert f"A/1/1: its translation along x is {value} um, which is no place" in found[wrong][1]


def test_a_grid_holds_whatever_files_say(tmp_path):
    spec = scan(tmp_path, (0, 0), (8, 0), (16, 0))
    assert corners(spec) == [(0, 0), (8, 0), (16, 0)]
    assert corners(scan(tmp_path, (0, 0), (8, 0), (1e300, 0), columns=2)) == [
        (0, 0),
        (0, 10),
        (8, 0),
    ]


def test_positions_in_no_unit_of_length_are_none(tmp_path):
    spec = scan(tmp_path, (0, 0), (8, 0), unit="reference frame")
    with pytest.raises(UnreadableError, match=r"do not say where they lie.*grid"):
        expand(spec)
    write_field(tmp_path / "0.ome.tif", np.ones((8, 10), "u2"), 0)
    with pytest.raises(UnreadableError, match=r"1\.ome\.tif: does not say in a unit of length"):
        expand(spec)


def test_grid_and_stage_are_one_too_many():
    source = {"fields": "stitched", "grid": {"columns": 2}, "stage": {"y": "up"}}
    with pytest.raises(RecipeError, match="grid and stage both say how fields lie"):
        parse_any_recipe({"source": source, "segment": {"method": "threshold"}}, "test")
