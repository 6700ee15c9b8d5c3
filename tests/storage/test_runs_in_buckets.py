"""Runs whose archive, output or scratch lies in a bucket: the same results as on disk."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tifffile
import yaml

from flows.request import Request
from pipeline.errors import BusyError, OutputError
from pipeline.manifest import Manifest
from pipeline.recipe import parse_recipe
from pipeline.run_folder import RECORDS, RunFolder
from pipeline.scores.find import find_labels
from pipeline.sources import open_source
from pipeline.sources.base import SourceSpec
from pipeline.status import status_text
from pipeline.storage import StorePath
from pipeline.storage.folders import copy_folder
from pipeline.verify import verify_folder
from tests.in_process import digests, opened, segment
from tests.storage.s3 import upload
from tests.storage.test_stored_sources import write_zarr

RECIPE = parse_recipe({"segment": {"method": "threshold"}, "label": "blobs"}, "test")


def blobs(seed: int, side: int = 150) -> np.ndarray:
    rng = np.random.default_rng(seed)
    image = np.zeros((side, side), "u1")
    for y, x in rng.integers(0, side - 12, (25, 2)):
        image[y : y + 9, x : x + 11] = 200
    return image


@pytest.fixture
def archive(tmp_path):
    folder = tmp_path / "archive"
    folder.mkdir()
    for number in range(3):
        tifffile.imwrite(folder / f"i{number}.tif", blobs(number))
    write_zarr(folder / "z.zarr", blobs(7)[None, None, None])
    return folder


@pytest.fixture
def request_(archive, tmp_path):
    return Request(RECIPE, archive, tmp_path / "out", tile_px=64)


def names_in(folder: StorePath) -> list[str]:
    return sorted(item.name for item in folder.walk())


@pytest.mark.parametrize("small", [True, False], ids=["small", "large"])
@pytest.mark.parametrize("work", ["disk", "bucket"])
def test_a_run_into_a_bucket_equals_one_on_disk(small, work, request_, archive, bucket):
    want = digests(segment(request_, small=small))
    upload(archive, bucket / "archive")
    stored = replace(
        request_,
        archive=bucket / "archive",
        out=bucket / "out",
        work=bucket / "work" if work == "bucket" else None,
    )
    folder = segment(stored, small=small)
    assert digests(folder) == want
    assert not verify_folder(stored.out).damaged
    assert "published    4 images" in status_text(stored.out)[0]
    assert not (bucket / "out" / ".tilewright" / "staging").is_dir()
    assert not (bucket / "work").is_dir()
    local = {p.relative_to(request_.out).as_posix() for p in request_.out.rglob("*.zarr/**/*")}
    found = {name for name in names_in(bucket / "out") if ".zarr/" in name}
    assert found == {name for name in local if (request_.out / name).is_file()}


@pytest.mark.parametrize("small", [True, False], ids=["small", "large"])
def test_tables_and_outlines_in_a_bucket_equal_those_on_disk(small, request_, bucket):
    output = {"csv": True, "table": "anndata", "outlines": "geojson"}
    recipe = parse_recipe(
        {"segment": {"method": "threshold"}, "label": "blobs", "output": output}, "test"
    )
    here = replace(request_, recipe=recipe)
    there = replace(here, out=bucket / "out")
    for request in (here, there):
        segment(request, small=small)
    assert not verify_folder(there.out).damaged
    found = {i.name for i in there.out.walk() if not i.name.startswith((".tilewright", "run"))}
    for name in sorted(found):
        if name.startswith("outlines/") or name.endswith(".csv") or "/tables/" in name:
            assert (there.out / name).read_bytes() == (here.out / name).read_bytes(), name
    assert sum(name.startswith("outlines/") for name in found) == 4
    assert any("/tables/blobs/X/" in name for name in found)
    (there.out / "outlines" / "i1.geojson").unlink()
    (there.out / "images" / "i2.ome.zarr/tables/blobs/obs/label/c/0").write_bytes(b"")
    (there.out / "objects.csv").write_bytes(b"image\n")
    damaged = verify_folder(there.out).damaged
    assert [part in line for part, line in zip(("i1", "i2", "csv"), damaged, strict=True)] == [
        True
    ] * 3


def test_a_rerun_changes_no_object(request_, bucket):
    stored = replace(request_, out=bucket / "out")
    segment(stored)
    before = {i.name: i for i in (bucket / "out").walk() if ".zarr/" in i.name}
    segment(stored)
    assert before == {i.name: i for i in (bucket / "out").walk() if ".zarr/" in i.name}


def test_another_machine_goes_on(request_, bucket, monkeypatch, tmp_path):
    stored = replace(request_, out=bucket / "out")
    segment(stored)
    monkeypatch.setenv("HOME", str(tmp_path / "other"))
    assert "published    4 images" in status_text(stored.out)[0]
    with opened(stored) as run:
        assert run.plan(run.admit()) == []


def test_damage_in_a_bucket_is_told(request_, bucket):
    stored = replace(request_, out=bucket / "out")
    segment(stored)
    group = bucket / "out" / "images" / "i1.ome.zarr"
    lost = next(n for n in names_in(group) if n.startswith("labels/blobs/0/c/"))
    (group / lost).unlink()
    changed = bucket / "out" / ".tilewright" / "tables" / "i0.parquet"
    changed.write_bytes(changed.read_bytes()[:-10])
    found = verify_folder(stored.out).damaged
    assert len(found) == 2
    assert found[0].startswith("i0: ")
    assert found[1].startswith("i1: labels: shard 0 is not what was published")


def test_what_is_replaced_is_kept(request_, archive, bucket):
    stored = replace(request_, out=bucket / "out")
    segment(stored)
    old = (
        bucket / "out" / "images" / "i1.ome.zarr" / "labels" / "blobs" / "zarr.json"
    ).read_bytes()
    tifffile.imwrite(archive / "i1.tif", blobs(99, 600))
    segment(stored)
    kept = [n for n in names_in(bucket / "out" / ".tilewright" / "previous") if "i1" in n]
    place = next(n for n in kept if n.endswith("labels/blobs/zarr.json"))
    assert (bucket / "out" / ".tilewright" / "previous" / place).read_bytes() == old
    assert not verify_folder(stored.out).damaged


def test_fresh_sets_aside(request_, bucket):
    stored = replace(request_, out=bucket / "out")
    want = digests(segment(stored))
    RunFolder(stored.out).start_over()
    assert not (bucket / "out" / "images").is_dir()
    assert not (bucket / "out" / RECORDS).is_file()
    kept = names_in(bucket / "out" / ".tilewright" / "previous")
    assert any(n.endswith("images/i0.ome.zarr/zarr.json") for n in kept)
    assert digests(segment(stored)) == want


def test_an_emptied_bucket_is_free_for_another_recipe(request_, bucket):
    first = replace(request_, out=bucket / "out", only="i0")
    segment(first)
    content = {"segment": {"method": "threshold", "foreground": {"value": 120}}, "label": "blobs"}
    other = replace(first, recipe=parse_recipe(content, "test"))
    with pytest.raises(OutputError, match="holds the results of another recipe"):
        segment(other)
    for name in names_in(bucket / "out"):
        (bucket / "out" / name).unlink()
    want = digests(segment(replace(other, out=bucket / "fresh")))
    assert digests(segment(other)) == want
    assert not verify_folder(bucket / "out").damaged


def test_files_of_others_are_kept(request_, bucket):
    out = bucket / "out"
    for name in ("objects.parquet", "recipe.yaml", "notes.txt"):
        (out / name).write_bytes(b"mine")
    segment(replace(request_, out=out, only="i0"))
    kept = {n.rpartition("/")[2]: n for n in names_in(out) if ".tilewright/previous/" in n}
    assert set(kept) == {"objects.parquet", "recipe.yaml"}
    assert all((out / name).read_bytes() == b"mine" for name in (*kept.values(), "notes.txt"))
    assert not verify_folder(out).damaged
    segment(replace(request_, out=out, only="i0"))
    assert {n for n in names_in(out) if "previous" in n} == set(kept.values())


def test_labels_go_into_an_image_in_a_bucket(archive, bucket):
    copy = bucket / "archive" / "z.zarr"
    write_zarr(copy, blobs(7)[None, None, None])
    recipe = parse_recipe(
        {"segment": {"method": "threshold"}, "label": "blobs", "output": {"image": "in_place"}},
        "test",
    )
    stored = Request(recipe, bucket / "archive", bucket / "out", tile_px=64)
    segment(stored, small=False)
    assert not verify_folder(stored.out).damaged
    assert not [n for n in names_in(copy) if n.startswith(".tilewright")]
    with open_source(SourceSpec("ome_zarr", str(copy / "labels" / "blobs"), "l")) as labels:
        assert labels.info.dtype == "uint32"
    (found,) = find_labels(bucket / "archive", "blobs").images
    assert found.spec.path == str(copy / "labels" / "blobs")


#: Copies that do not come about: within the table, the labels, the image, the metadata at its root.
BREAKS = [1, 4, 11, 24, 38, 53]


class Stopped(Exception):
    pass


def test_a_publication_that_breaks_off_is_done_again(request_, bucket, monkeypatch):
    want = digests(segment(request_))
    stored = replace(request_, out=bucket / "out")
    copied = 0
    copy = StorePath.copy_to

    def breaks(self: StorePath, target: StorePath) -> None:
        nonlocal copied
        copied += 1
        if copied in BREAKS:
            raise Stopped
        copy(self, target)

    monkeypatch.setattr(StorePath, "copy_to", breaks)
    for _ in [*BREAKS, 0]:
        try:
            folder = segment(stored, small=False)
        except Stopped:
            seen = [n for n in names_in(bucket / "out" / "images") if n.count("/") == 1]
            for name in seen:  # what can be seen is whole
                group = bucket / "out" / "images" / name.partition("/")[0]
                assert (group / "labels" / "blobs" / "zarr.json").is_file()
        else:
            break
    assert copied > max(BREAKS)
    assert digests(folder) == want
    assert not verify_folder(stored.out).damaged
    assert not (bucket / "out" / ".tilewright" / "previous").is_dir()


@pytest.mark.parametrize("seed", [0])
def test_faults_change_nothing(seed, request_, archive, bucket, behind):
    want = digests(segment(request_))
    upload(archive, bucket / "archive")
    door = behind(0.1, seed)
    stored = replace(request_, archive=bucket / "archive", out=bucket / "out", work=bucket / "work")
    folder = segment(stored, small=False)
    assert digests(folder) == want
    assert not verify_folder(stored.out).damaged
    assert all(door.seen[kind] > 0 for kind in ("error", "busy", "slow", "lost", "cut"))


def test_two_do_not_write_at_once(request_, bucket):
    stored = replace(request_, out=bucket / "out")
    with opened(stored):
        held = (bucket / "out" / ".tilewright" / "lock.json").read_bytes()
        other = yaml.safe_load(held)
        place = bucket / "other" / ".tilewright" / "lock.json"
        place.write_bytes(held)
        with (
            pytest.raises(BusyError, match=str(other["pid"])),
            opened(replace(stored, out=bucket / "other")),
        ):
            pass
    assert not (bucket / "out" / ".tilewright" / "lock.json").is_file()


def test_the_dead_hold_nothing(request_, bucket, monkeypatch):
    stored = replace(request_, out=bucket / "out")
    place = bucket / "out" / ".tilewright" / "lock.json"
    place.write_bytes(b'{"host": "elsewhere", "pid": 1, "token": "x", "time": 1000}')
    monkeypatch.setattr("time.sleep", lambda s: None)
    with opened(stored):
        pass
    assert not place.is_file()


def test_who_was_taken_for_dead_leaves_the_other_alone(request_, bucket):
    stored = replace(request_, out=bucket / "out")
    place, other = bucket / "out" / ".tilewright" / "lock.json", b'{"token": "another"}'
    with opened(stored):
        place.write_bytes(other)
    assert place.read_bytes() == other


def test_records_of_a_store_and_of_the_disk(request_, bucket):
    """The farther ones count; a machine that lost its own takes those of the store."""
    stored = replace(request_, out=bucket / "out")
    folder = segment(stored)
    with_row = Manifest(folder.records, write=True)
    row = with_row.image("i0")
    assert row is not None
    with_row.set_image(replace(row, name="only here"))
    with_row.close()
    reading = folder.reading()
    assert reading.image("only here") is not None
    reading.close()
    folder.records.unlink()
    reading = folder.reading()
    assert reading.image("only here") is None
    assert reading.image("i0") == row
    reading.close()


def test_a_copied_group_is_what_it_was(bucket):
    write_zarr(bucket / "a.zarr", blobs(1)[None, None, None])
    copy_folder(bucket / "a.zarr", bucket / "b.zarr")
    assert {i.name: i.version for i in (bucket / "a.zarr").walk()} == {
        i.name: i.version for i in (bucket / "b.zarr").walk()
    }


def test_points_beside_an_image_in_a_bucket(bucket, tmp_path):
    archive = tmp_path / "archive"
    archive.mkdir()
    tifffile.imwrite(archive / "a.tif", blobs(3))
    (archive / "a.seeds.csv").write_text("y,x\n20,20\n60,90\n")
    content = {"segment": {"method": "region_growing", "tolerance": 9, "seeds": {"from": "points"}}}
    recipe = parse_recipe({**content, "label": "grown"}, "test")
    want = digests(segment(Request(recipe, archive, tmp_path / "out")))
    upload(archive, bucket / "archive")
    assert digests(segment(Request(recipe, bucket / "archive", bucket / "out"))) == want
