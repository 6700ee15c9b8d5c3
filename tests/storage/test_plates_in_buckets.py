"""Plates in buckets: the same objects, wells and labels as on disk."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pandas as pd
import pytest
import tifffile

from flows.request import Request
from pipeline.recipe import parse_recipe
from pipeline.run_folder import RunFolder
from pipeline.verify import verify_folder
from tests.in_process import digests, segment
from tests.plate_files import write_plate
from tests.storage.test_runs_in_buckets import blobs, names_in, upload

FIELDS = {(r, "1", f): blobs(ord(r) + int(f), 60) for r in "AB" for f in "01"}


def recipe(**more):
    return parse_recipe({"segment": {"method": "threshold"}, "label": "blobs", **more}, "test")


@pytest.mark.parametrize("how", ["apart", "stitched", "files"])
def test_a_plate_in_a_bucket_equals_one_on_disk(how, tmp_path, bucket):
    archive = tmp_path / "archive"
    source = {}
    if how == "files":
        archive.mkdir()
        for (row, column, field), pixels in FIELDS.items():
            tifffile.imwrite(archive / f"{row}{column}_s{field}_w1.tif", pixels)
            tifffile.imwrite(archive / f"{row}{column}_s{field}_w2.tif", 255 - pixels)
        source = {"files": "{well}_s{field}_{channel}.tif", "channels": ["w1"]}
    else:
        write_plate(archive / "p.zarr", FIELDS, "0.5")
    if how == "stitched":
        source = {"fields": "stitched", "grid": {"columns": 2}}
    wanted = recipe(source=source, output={"image": "copy"})
    here = Request(wanted, archive, tmp_path / "out", tile_px=64)
    want = segment(here)
    upload(archive, bucket / "archive")
    there = replace(here, archive=bucket / "archive", out=bucket / "out")
    found = segment(there)
    assert digests(found) == digests(want)
    assert not verify_folder(there.out).damaged
    stored = [name for name in names_in(bucket / "out") if name.startswith("images/")]
    assert stored == sorted(
        path.relative_to(tmp_path / "out").as_posix()
        for path in (tmp_path / "out" / "images").rglob("*")
        if path.is_file()
    )
    for name in stored:
        if name.endswith("zarr.json"):
            assert (bucket / "out" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    wells = tmp_path / "wells.parquet"
    wells.write_bytes((bucket / "out" / "wells.parquet").read_bytes())
    pd.testing.assert_frame_equal(pd.read_parquet(wells), pd.read_parquet(want.wells))


def test_other_pixels_replace_a_field_and_the_plate_stays_whole(tmp_path, bucket):
    archive = write_plate(tmp_path / "p.zarr", FIELDS)
    request = Request(recipe(output={"image": "copy"}), archive, bucket / "out")
    segment(request)
    before = names_in(bucket / "out" / "images")
    place = ("B", "1", "0")
    shutil.rmtree(archive)
    write_plate(tmp_path / "p.zarr", {**FIELDS, place: 255 - FIELDS[place]})
    folder = segment(request)
    assert names_in(bucket / "out" / "images") == before
    assert not verify_folder(request.out).damaged
    kept = bucket / "out" / ".tilewright" / "previous"
    assert any("p/B/1/0.ome.zarr/zarr.json" in name for name in names_in(kept))
    assert isinstance(folder, RunFolder)
