"""Plates in: which fields are found, how they are called, and what a broken one costs."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from pipeline.errors import UnreadableError
from pipeline.sources import discover, open_source
from pipeline.sources.names import distinct_names, keep_plates
from pipeline.sources.parts import Site
from tests.plate_files import change, ome_of, write_plate

PLACES = [(r, c, f) for r in "AB" for c in ("1", "2") for f in ("0", "1")]


@pytest.fixture(params=["0.4", "0.5"])
def version(request):
    return request.param


def plate(path, version="0.4", **more):
    fields = {p: np.full((6, 8), k, np.uint8) for k, p in enumerate(PLACES)}
    return write_plate(path, fields, version, **more)


def names(specs):
    return [spec.name for spec in specs]


def faults(specs):
    return {spec.name: spec.fault for spec in specs if spec.fault}


def test_fields_are_those_that_the_metadata_list(tmp_path, version):
    place = plate(tmp_path / "d" / "p.ome.zarr", version, positions={PLACES[3]: (5.0, -2.5)})
    (place / "A" / "1" / "extra").mkdir()
    (place / "C" / "9" / "0").mkdir(parents=True)
    specs = discover(tmp_path)
    assert names(specs) == [f"d/p/{'/'.join(p)}" for p in PLACES]
    assert specs[3].site == Site("d/p", "A", "2", "1")
    assert specs[3].site.well == "A2"
    with open_source(specs[3]) as source:
        assert source.info.origin_um == (None, 5.0, -2.5)
        assert source.info.shape == (1, 1, 1, 6, 8)
    assert names(discover(place)) == [f"p/{'/'.join(p)}" for p in PLACES]
    assert names(discover(place / "B" / "2" / "0")) == ["0"]


def test_only(tmp_path):
    plate(tmp_path / "p.zarr")
    assert names(discover(tmp_path, "p/B/*")) == [f"p/{'/'.join(p)}" for p in PLACES[4:]]
    assert names(discover(tmp_path, "*/1/1")) == ["p/A/1/1", "p/B/1/1"]
    assert names(discover(tmp_path, "p.zarr/A/2/0")) == ["p/A/2/0"]


def test_a_broken_well_costs_its_own_fields(tmp_path):
    place = plate(tmp_path / "p.zarr")
    change(place / "A" / "1", "{")
    change(place / "B" / "1", {"well": {"images": [{"path": "../../A/2/0"}]}})
    plate(tmp_path / "q.zarr")
    change(tmp_path / "q.zarr" / "A" / "1", {"well": {"images": [None]}})
    (broken,) = faults(discover(tmp_path / "q.zarr")).values()
    assert broken.endswith("not understood: an image is None, no JSON object")
    shutil.rmtree(tmp_path / "q.zarr")
    (place / "B" / "2" / "1").rename(tmp_path / ".gone")
    specs = discover(tmp_path)
    assert names(specs) == ["p/A/1", "p/A/2/0", "p/A/2/1", "p/B/1", "p/B/2/0", "p/B/2/1"]
    found = faults(specs)
    assert "well A1 is listed in its plate, and its metadata are not und" in found["p/A/1"]
    assert "'../../A/2/0' is no name of a field" in found["p/B/1"]
    assert found["p/B/2/1"] == "field 1 is listed in well B2, and is not there"
    assert len(found) == 3
    with pytest.raises(UnreadableError, match=r"p\.zarr/A/1: well A1 is listed"):
        open_source(specs[0])


def test_a_broken_plate_says_so(tmp_path):
    place = plate(tmp_path / "p.zarr")
    ome = ome_of(place)
    wells = ome["plate"]["wells"]
    change(place, {"plate": {**ome["plate"], "wells": [*wells[1:], {"path": "../q/1"}, "x"]}})
    specs = discover(tmp_path)
    assert names(specs)[:2] == ["p", "p"]
    assert [s.fault for s in specs[:2]] == [
        "its plate metadata call well 3 '../q/1', which is no row/column",
        "its plate metadata call well 4 'x', which is no row/column",
    ]
    assert len(specs) == 8
    for broken, fault in [
        ({"plate": {}}, "'wells' is missing"),
        ({"plate": 3}, "not understood: its plate is 3, no JSON object"),
        ({"plate": None}, "not understood: its plate is None, no JSON object"),
        ({"plate": {"wells": None}}, "not understood: it lists no wells"),
    ]:
        change(place, broken)
        (spec,) = discover(tmp_path)
        assert fault in spec.fault
    change(place, "{")
    (spec,) = discover(tmp_path)
    with pytest.raises(UnreadableError):
        open_source(spec)


def test_plates_that_are_called_alike_are_told_apart(tmp_path):
    plate(tmp_path / "p.zarr")
    plate(tmp_path / "p.ome.zarr", "0.5")
    plate(tmp_path / "q.zarr")
    (tmp_path / "Q.png").touch()
    specs = discover(tmp_path)
    plates = {spec.site.plate for spec in specs if spec.site}
    assert plates == {"p.zarr", "p.ome.zarr", "q.zarr"}
    assert {"Q", "p.ome.zarr/A/1/0", "p.zarr/A/1/0"} < set(names(specs))
    assert {s.site.plate for s in discover(tmp_path, "*/A/1/0") if s.site} == plates


def test_a_plate_keeps_its_name_with_fields_that_are_new(tmp_path):
    plate(tmp_path / "p.zarr")
    first = discover(tmp_path)
    given = {(spec.path, ""): spec.name for spec in first[1:]}
    plate(tmp_path / "p.ome.zarr", "0.5")
    (tmp_path / "P.png").touch()
    specs = distinct_names(keep_plates(discover(tmp_path), given), given)
    assert [spec for spec in specs if "p.zarr" in spec.path] == first
    assert {spec.site.plate for spec in specs if spec.site} == {"p", "p.ome.zarr"}
    assert "P.png" in names(specs)
