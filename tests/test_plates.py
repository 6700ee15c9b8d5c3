"""Plates from end to end: in, out, stitched, interrupted, damaged."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import tifffile
import zarr
from scipy import ndimage

from flows.request import Request
from pipeline import plate_layout
from pipeline.labels_recipe import parse_any_recipe
from pipeline.manifest import Manifest
from pipeline.recipe import parse_recipe
from pipeline.run_folder import RunFolder
from pipeline.sources.ome_zarr_metadata import ome_attributes
from pipeline.verify import verify_folder
from pipeline.wells import SITES
from tests import in_process
from tests.plate_files import Place, change, ome_of, write_plate

RECIPE: dict[str, Any] = {
    "label": "cells",
    "segment": {"method": "threshold", "foreground": {"value": 150}},
}
#: Two wells of two fields, as parts of one well-sized plane each.
WELLS = (("A", "1"), ("B", "3"))
SIDE = 40


def recipe(**more: Any) -> Any:
    return parse_recipe({**RECIPE, **more}, "recipe")


def run(archive: Path, out: Path, tile: int | None = None, small: bool | None = None, **more: Any):
    return in_process.segment(Request(recipe(**more), archive, out, tile), small=small)


def well(number: int) -> np.ndarray:
    """Blobs, some of them across the border of the two halves."""
    rng = np.random.default_rng(number)
    smooth = ndimage.gaussian_filter(rng.random((SIDE, 2 * SIDE)), 2)
    plane = ((smooth - smooth.min()) / np.ptp(smooth) * 255).astype(np.uint8)
    assert np.unique(labels_of(plane)[:, SIDE - 1 : SIDE + 1]).size > 2
    return plane


def labels_of(plane: np.ndarray) -> np.ndarray:
    """The whole image as scipy labels it: numbers in raster order of first pixels."""
    return ndimage.label(plane > 150, np.ones((3, 3)))[0]


def halves() -> dict[Place, np.ndarray]:
    return {
        (*place, str(k)): well(n)[:, k * SIDE : (k + 1) * SIDE]
        for n, place in enumerate(WELLS)
        for k in range(2)
    }


def labels_at(group: Path) -> np.ndarray:
    return np.asarray(zarr.open_array(group / "labels/cells/0", mode="r")[...])


def statuses(folder: RunFolder) -> dict[str, str]:
    manifest = folder.reading()
    try:
        return {row.name: row.status for row in manifest.images()}
    finally:
        manifest.close()


def valid(plate: Path, version: str = "0.5") -> list[str]:
    """Validate a plate, its wells and images against the specification; names of its fields."""
    models: Any
    if version == "0.5":
        from ome_zarr_models import v05 as models
    else:
        from ome_zarr_models import v04 as models
    models.HCS.from_zarr(zarr.open_group(plate, mode="r"))
    names = []
    for listed in ome_of(plate)["plate"]["wells"]:
        folder = plate / listed["path"]
        models.Well.from_zarr(zarr.open_group(folder, mode="r"))
        for image in ome_of(folder)["well"]["images"]:
            models.Image.from_zarr(zarr.open_group(folder / image["path"], mode="r"))
            labels = models.Labels.from_zarr(zarr.open_group(folder / image["path"] / "labels"))
            assert "cells" in str(labels.attributes)
            names.append(f"{listed['path']}/{image['path']}")
    return names


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_plate_in_is_the_same_plate_with_labels_out(tmp_path: Path, version: str) -> None:
    fields = halves()
    write_plate(tmp_path / "in" / "p.zarr", fields, version)
    folder = run(tmp_path / "in", tmp_path / "out", output={"image": "copy"})
    plate = folder.images / "p.ome.zarr"
    assert valid(plate) == ["A/1/0", "A/1/1", "B/3/0", "B/3/1"]
    for place, pixels in fields.items():
        group = plate.joinpath(*place)
        np.testing.assert_array_equal(labels_at(group), labels_of(pixels))
        np.testing.assert_array_equal(zarr.open_array(group / "0", mode="r")[...], pixels)
    found = ome_of(plate)["plate"]
    assert (found["name"], found["field_count"]) == ("p", 2)
    assert [c["name"] for c in found["columns"]] == ["1", "3"]
    assert ome_of(plate / "B/3/1")["multiscales"][0]["name"] == "p/B/3/1"
    assert not verify_folder(folder.root).damaged


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_labels_go_into_the_plate_itself(tmp_path: Path, version: str) -> None:
    fields = halves()
    plate = write_plate(tmp_path / "p.zarr", fields, version)
    before = {path: path.read_bytes() for path in plate.rglob("*") if path.is_file()}
    folder = run(plate, tmp_path / "out", output={"image": "in_place"})
    assert {path: path.read_bytes() for path in before} == before
    assert valid(plate, version) == ["A/1/0", "A/1/1", "B/3/0", "B/3/1"]
    for place, pixels in fields.items():
        np.testing.assert_array_equal(labels_at(plate.joinpath(*place)), labels_of(pixels))
    assert not verify_folder(folder.root).damaged
    assert not list(folder.images.rglob("*"))


@pytest.mark.parametrize("image", ["copy", "none", "in_place"])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_stage_positions_survive(tmp_path: Path, image: str, version: str) -> None:
    places = {place: (3.5 * k, -20.25) for k, place in enumerate(halves())}
    write_plate(tmp_path / "p.zarr", halves(), version, places)
    folder = run(tmp_path / "p.zarr", tmp_path / "out", output={"image": image})
    manifest = folder.reading()
    groups = {row.name: Path(row.details["location"]) for row in manifest.images()}
    manifest.close()
    for (row, column, field), (y, x) in places.items():
        group = groups[f"p/{row}/{column}/{field}"]
        for one in [group / "labels/cells", *([] if image == "none" else [group])]:
            level = ome_of(one)["multiscales"][0]["datasets"][0]
            assert level["coordinateTransformations"] == [
                {"type": "scale", "scale": [0.5, 0.5]},
                {"type": "translation", "translation": [y, x]},
            ]


def test_without_the_images_labels_lie_in_folders_of_the_plate(tmp_path: Path) -> None:
    fields = halves()
    write_plate(tmp_path / "p.zarr", fields)
    folder = run(tmp_path / "p.zarr", tmp_path / "out")
    for place, pixels in fields.items():
        group = folder.images / "p" / "/".join(place[:2]) / f"{place[2]}.ome.zarr"
        np.testing.assert_array_equal(labels_at(group), labels_of(pixels))
    assert not verify_folder(folder.root).damaged


@pytest.mark.parametrize("tile", [16, 24, 33, 200])
@pytest.mark.parametrize("how", ["stage", "stage up", "grid", "files"])
def test_a_stitched_well_equals_the_unsplit_image(tmp_path: Path, how: str, tile: int) -> None:
    archive, source = tmp_path / "p", {"fields": "stitched"}
    if how == "files":
        archive.mkdir()
        for (row, column, field), pixels in halves().items():
            tifffile.imwrite(archive / f"{row}{column}_s{field}.tif", pixels)
        source |= {"files": "{well}_s{field}.tif", "grid": {"columns": 2}}
    elif how == "grid":
        write_plate(archive, halves(), "0.5")
        source |= {"grid": {"columns": 2}}
    else:
        # The first field lies at the right: its place is told by the stage, not by its name.
        up = how.endswith("up")
        places = {p: (7.0 + (up and p[2] == "1") * 2.0, 20.0 * (p[2] == "0")) for p in halves()}
        swapped = {p: halves()[*p[:2], "10"[int(p[2])]] for p in halves()}
        if up:  # and two um, four px, lower than the other one, for its y is smaller
            source |= {"stage": {"y": "up"}}
        write_plate(archive, swapped, "0.4", places)
    folder = run(archive, tmp_path / "out", tile, small=False, source=source)
    assert set(statuses(folder)) == {"p/A/1", "p/B/3"}
    plate = folder.images / "p.ome.zarr"
    assert valid(plate) == ["A/1/0", "B/3/0"]
    for number, place in enumerate(WELLS):
        pixels = well(number)
        if how == "stage up":
            pixels = np.zeros((SIDE + 4, 2 * SIDE), np.uint8)
            pixels[4:, SIDE:] = well(number)[:, SIDE:]
            pixels[:SIDE, :SIDE] = well(number)[:, :SIDE]
        np.testing.assert_array_equal(labels_at(plate.joinpath(*place, "0")), labels_of(pixels))
    assert not verify_folder(folder.root).damaged


def test_a_plate_of_files_by_their_names(tmp_path: Path) -> None:
    archive = tmp_path / "screen"
    for (row, column, field), pixels in halves().items():
        folder = archive / "plate7" / "TimePoint_1"
        folder.mkdir(parents=True, exist_ok=True)
        name = f"plate7_{row}0{column}_s{int(field) + 1}"
        tifffile.imwrite(folder / f"{name}_w1.tif", pixels)
        tifffile.imwrite(folder / f"{name}_w2.tif", 255 - pixels)
    (folder / "plate7_A01_s2_w1.tif").unlink()
    (folder / "plate7_notes.png").touch()
    source = {
        "files": {"preset": "imagexpress", "channels": {"w1": "DNA"}},
        "channels": ["DNA"],
    }
    done = run(archive, tmp_path / "out", source=source)
    found = statuses(done)
    assert {name: status for name, status in found.items() if status != "published"} == {
        "plate7/A/01/2": "quarantined",
        "plate7/TimePoint_1/plate7_notes": "quarantined",
    }
    plate = done.images / "plate7.ome.zarr"
    assert valid(plate) == ["A/01/1", "B/03/1", "B/03/2"]
    group = plate / "B/03/2"
    np.testing.assert_array_equal(labels_at(group), labels_of(well(1)[:, SIDE:]))
    np.testing.assert_array_equal(
        zarr.open_array(group / "0", mode="r")[...], [well(1)[:, SIDE:], 255 - well(1)[:, SIDE:]]
    )
    assert [c["label"] for c in ome_of(group)["omero"]["channels"]] == ["DNA", "w2"]
    wells = pd.read_parquet(done.wells)
    assert list(wells["fields_quarantined"]) == [1, 0]
    # When the file is there, the same command does what was left.
    tifffile.imwrite(folder / "plate7_A01_s2_w1.tif", well(0)[:, SIDE:])
    (folder / "plate7_notes.png").unlink()
    again = run(archive, tmp_path / "out", source=source)
    assert set(statuses(again).values()) == {"published"}
    assert valid(plate) == ["A/01/1", "A/01/2", "B/03/1", "B/03/2"]
    # A file that was written again makes its field run again; what was there is kept.
    tifffile.imwrite(folder / "plate7_B03_s2_w2.tif", well(1)[:, SIDE:])
    run(archive, tmp_path / "out", source=source)
    assert valid(plate) == ["A/01/1", "A/01/2", "B/03/1", "B/03/2"]
    assert len(list(done.hidden.glob("previous/*/plate7/B/03/2.ome.zarr"))) == 1


def test_planes_and_times_in_files_of_their_own(tmp_path: Path) -> None:
    volume = np.stack([well(k) for k in (0, 1)] * 2).reshape(2, 2, SIDE, 2 * SIDE)
    (tmp_path / "p").mkdir()
    for t in range(2):
        for z in range(2):
            tifffile.imwrite(tmp_path / "p" / f"a_t{t}_z{z + 9}.tif", volume[t, z])
    source = {"files": "{field}_t{t}_z{z}.tif", "dims": "3d"}
    segment = {**RECIPE["segment"], "connectivity": 26}
    for tile in (17, 200):
        folder = run(
            tmp_path / "p", tmp_path / f"out{tile}", tile, False, source=source, segment=segment
        )
        group = folder.images / "a.ome.zarr"
        found = labels_at(group)
        for t in range(2):
            alone = ndimage.label(volume[t] > 150, np.ones((3, 3, 3)))[0]
            assert_same_objects(found[t], alone)


def assert_same_objects(a: np.ndarray, b: np.ndarray) -> None:
    """The same objects, whatever their numbers: those of later times go on counting."""
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]


def test_a_watershed_of_a_stitched_well_is_that_of_the_unsplit_image(tmp_path: Path) -> None:
    segment = {"method": "watershed", "min_distance_px": 4, "smooth_px": 1.0}
    steps = [{"filter": "gaussian", "sigma_px": 1}]
    (tmp_path / "unsplit").mkdir()
    for number, (row, column) in enumerate(WELLS):
        tifffile.imwrite(tmp_path / "unsplit" / f"{row}{column}.tif", well(number))
    archive = write_plate(tmp_path / "p.zarr", halves(), "0.5")
    more = {"segment": segment, "preprocess": steps}
    whole = run(tmp_path / "unsplit", tmp_path / "whole", **more)
    source = {"fields": "stitched", "grid": {"columns": 2}}
    for tile in (20, 37):
        folder = run(archive, tmp_path / f"out{tile}", tile, False, source=source, **more)
        for row, column in WELLS:
            want = labels_at(whole.images / f"{row}{column}.ome.zarr")
            assert want.max() > 3
            got = labels_at(folder.images / "p.ome.zarr" / row / column / "0")
            np.testing.assert_array_equal(got, want)


def test_acquisitions_stay_apart(tmp_path: Path) -> None:
    fields = {("A", "1", str(k)): well(k)[:8, :9] for k in range(4)}
    numbers = {"0": 0, "1": 0, "2": 5, "3": 5}
    archive = write_plate(tmp_path / "p.zarr", fields, "0.5", acquisitions=numbers)
    folder = run(archive, tmp_path / "apart", output={"image": "copy"})
    plate = folder.images / "p.ome.zarr"
    assert len(valid(plate)) == 4
    assert ome_of(plate)["plate"]["acquisitions"] == [{"id": 0}, {"id": 5}]
    assert ome_of(plate / "A/1")["well"]["images"][2] == {"path": "2", "acquisition": 5}
    source = {"fields": "stitched", "grid": {"columns": 2}}
    folder = run(archive, tmp_path / "stitched", source=source)
    assert set(statuses(folder)) == {"p/A/1/acquisition0", "p/A/1/acquisition5"}
    plate = folder.images / "p.ome.zarr"
    assert valid(plate) == ["A/1/acquisition0", "A/1/acquisition5"]
    group = plate / "A/1/acquisition5"
    want = np.concatenate([fields["A", "1", "2"], fields["A", "1", "3"]], axis=1)
    np.testing.assert_array_equal(zarr.open_array(group / "0", mode="r")[...], want)


def test_each_acquisition_is_laid_out_on_a_grid_of_its_own(tmp_path: Path) -> None:
    # Three fields each, so that the second acquisition does not begin a row by its fields' names.
    fields = {("A", "1", str(k)): well(k)[:8, :9] for k in range(6)}
    numbers = {str(k): k // 3 for k in range(6)}
    archive = write_plate(tmp_path / "p.zarr", fields, "0.5", acquisitions=numbers)
    source = {"fields": "stitched", "grid": {"columns": 2, "order": "snake"}}
    folder = run(archive, tmp_path / "out", source=source, output={"image": "copy"})
    for number in range(2):
        a, b, c = (fields["A", "1", str(3 * number + k)] for k in range(3))
        want = np.block([[a, b], [np.zeros_like(c), c]])
        group = folder.images / f"p.ome.zarr/A/1/acquisition{number}"
        np.testing.assert_array_equal(zarr.open_array(group / "0", mode="r")[...], want)


def test_acquisitions_are_not_summed_up(tmp_path: Path) -> None:
    # The same pictures twice; and a plate that comes first and knows no acquisitions.
    pair = [halves()["A", "1", str(k)] for k in range(2)]
    fields = {("A", "1", str(k)): pair[k % 2] for k in range(4)}
    numbers = {str(k): 3 + k // 2 for k in range(4)}
    write_plate(tmp_path / "in" / "q.zarr", fields, "0.5", acquisitions=numbers)
    write_plate(tmp_path / "in" / "p.zarr", {("A", "1", "0"): pair[0]}, "0.5")
    for source in ({}, {"fields": "stitched", "grid": {"columns": 2}}):
        folder = run(tmp_path / "in", tmp_path / f"out{len(source)}", source=source)
        wells = pd.read_parquet(folder.wells, dtype_backend="pyarrow")
        assert list(wells.columns[:5]) == ["plate", "well", "row", "column", "acquisition"]
        assert pq.read_table(folder.wells)["acquisition"].to_pylist() == [None, 3, 4]
        assert list(wells["fields"]) == ([1, 1, 1] if source else [1, 2, 2])
        assert wells["objects"][1] == wells["objects"][2] > wells["objects"][0]
        objects = pq.read_table(folder.objects)
        assert objects.column_names[:6] == ["image", *SITES, "label"]
        found = Counter(zip(*(objects[n].to_pylist() for n in ("plate", SITES[3])), strict=True))
        counts = [found["p", None], found["q", 3], found["q", 4]]
        assert counts == list(wells["objects"])
        page = folder.report.read_text("utf-8")
        assert "<h2>2 plates</h2>" in page
        for name in ("p", "q · acquisition 3", "q · acquisition 4"):
            assert f"<h3>{name}</h3>" in page


def test_threads_that_publish_into_one_well_do_not_lose_a_field(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from pipeline.sources.parts import Site

    sites = [Site("d/p", row, "1", f"f.{k}") for row in "AB" for k in range(12)]
    folders = [plate_layout.field_folder(tmp_path, site) for site in sites]

    def publish(k: int) -> None:
        folders[k].mkdir(parents=True)
        plate_layout.list_field(folders[k], sites[k])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(publish, range(len(sites))))
    assert all(map(plate_layout.is_listed, folders))
    plate = tmp_path / "d/p.ome.zarr"
    assert ome_of(plate)["plate"]["field_count"] == 12
    assert [i["path"] for i in ome_of(plate / "B/1")["well"]["images"]][10] == "fx2E10"
    for folder in folders:
        plate_layout.strike_field(folder)
    assert not (plate / "zarr.json").exists()


class Stopped(BaseException):
    """The machine is switched off."""


@pytest.mark.parametrize("small", [True, False])
def test_a_plate_is_whole_after_any_crash(
    tmp_path: Path, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {place: pixels for place, pixels in halves().items() if place != ("B", "3", "1")}
    archive, plate = write_plate(tmp_path / "p.zarr", fields), tmp_path / "out/images/p.ome.zarr"
    monkeypatch.setattr("pipeline.report.write_report", lambda *_: None)  # it takes longest
    steps = Steps(monkeypatch)
    run(archive, tmp_path / "whole", small=small, output={"image": "copy"})
    assert steps.done > 12
    for last in range(steps.done):
        out = tmp_path / "out"
        shutil.rmtree(out, ignore_errors=True)
        steps.stop_after(last)
        with pytest.raises(Stopped):
            run(archive, out, small=small, output={"image": "copy"})
        if (plate / "zarr.json").is_file():
            valid(plate)
        steps.stop_after(None)
        folder = run(archive, out, small=small, output={"image": "copy"})
        assert valid(plate) == ["A/1/0", "A/1/1", "B/3/0"]
        assert in_process.digests(folder) == in_process.digests(RunFolder(tmp_path / "whole"))


class Steps:
    """Counts what changes a published plate or its records, and stops after some of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done, self._left = 0, -1
        for owner, name in [
            (plate_layout, "_write_group"),
            (Path, "rename"),
            (Manifest, "set_image"),
        ]:
            monkeypatch.setattr(owner, name, self._counted(getattr(owner, name)))

    def stop_after(self, count: int | None) -> None:
        self._left = -1 if count is None else count

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any) -> Any:
            if self._left == 0:
                raise Stopped
            self._left -= 1
            self.done += 1
            return real(*args)

        return step


def test_readers_see_a_whole_plate_at_every_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = write_plate(tmp_path / "p.zarr", halves())
    plate = tmp_path / "out/images/p.ome.zarr"
    seen: list[int] = []

    def watched(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **more: Any) -> Any:
            try:
                return real(*args, **more)
            finally:
                if (plate / "zarr.json").is_file():
                    seen.append(len(valid(plate)))

        return step

    for owner, name in [(plate_layout, "_write_group"), (Path, "rename"), (shutil, "move")]:
        monkeypatch.setattr(owner, name, watched(getattr(owner, name)))
    run(archive, tmp_path / "out", output={"image": "copy"})
    assert sorted(seen) == seen
    assert set(seen) == {1, 2, 3, 4}
    # Other pixels: every field is replaced, and the last of a well, too.
    seen.clear()
    shutil.rmtree(archive)
    write_plate(archive, {place: 255 - pixels for place, pixels in halves().items()})
    run(archive, tmp_path / "out", output={"image": "copy"})
    assert set(seen) == {3, 4}


def test_damaged_plate_metadata_are_noticed_and_written_anew(tmp_path: Path) -> None:
    archive = write_plate(tmp_path / "p.zarr", halves())
    folder = run(archive, tmp_path / "out", output={"image": "copy"})
    plate = folder.images / "p.ome.zarr"
    (plate / "zarr.json").write_text("{")
    found = verify_folder(folder.root).damaged
    assert len(found) == 4
    assert "p/A/1/0: it is not listed in the metadata of its plate p" in found
    run(archive, tmp_path / "out", output={"image": "copy"})
    assert len(valid(plate)) == 4
    assert not verify_folder(folder.root).damaged


def test_a_broken_well_is_quarantined_and_the_others_go_on(tmp_path: Path) -> None:
    archive = write_plate(tmp_path / "p.zarr", halves())
    change(archive / "A" / "1", "{")
    folder = run(tmp_path / "p.zarr", tmp_path / "out", output={"image": "copy"})
    assert statuses(folder) == {
        "p/A/1": "quarantined",
        "p/B/3/0": "published",
        "p/B/3/1": "published",
    }
    assert valid(folder.images / "p.ome.zarr") == ["B/3/0", "B/3/1"]


def test_wells_are_summed_up(tmp_path: Path) -> None:
    empty = ("C", "1", "0")
    archive = write_plate(tmp_path / "p.zarr", {**halves(), empty: np.zeros((8, 8), np.uint8)})
    folder = run(archive, tmp_path / "out")
    objects = pd.read_parquet(folder.objects)
    assert list(objects.columns[:5]) == ["image", "plate", "well", "field", "label"]
    assert set(objects["well"]) == {"A1", "B3"}
    wells = pd.read_parquet(folder.wells).set_index("well")
    assert list(wells.index) == ["A1", "B3", "C1"]
    for name, rows in objects.groupby("well"):
        found = wells.loc[str(name)]
        assert (found["fields"], found["objects"]) == (2, len(rows))
        for column in ("area_px", "mean_0", "eccentricity"):
            if column in rows:
                for how in ("mean", "median", "std"):
                    assert found[f"{column}_{how}"] == pytest.approx(rows[column].agg(how))
    assert wells.loc["C1", "objects"] == 0
    assert pd.isna(wells.loc["C1", "area_px_mean"])
    assert not [c for c in wells if c.startswith(("bbox", "centroid", "label", "t_"))]
    kinds = {field.name: str(field.type) for field in pq.read_schema(folder.wells)}
    assert (kinds["objects"], kinds["area_px_mean"], kinds["row"]) == ("int64", "double", "string")


def test_wells_of_a_map_of_classes(tmp_path: Path) -> None:
    archive = write_plate(tmp_path / "p.zarr", halves())
    segment = {**RECIPE["segment"], "output": "classes"}
    folder = run(archive, tmp_path / "out", segment=segment)
    wells = pd.read_parquet(folder.wells).set_index("well")
    areas = [c for c in wells if c.startswith("area_px_")]
    assert wells.loc["A1", areas].sum() == SIDE * 2 * SIDE
    assert (well(0) > 150).sum() in set(wells.loc["A1", areas])


def test_other_archives_have_no_wells(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", well(0))
    folder = run(tmp_path / "a.tif", tmp_path / "out")
    assert not folder.wells.exists()
    assert "plate" not in pd.read_parquet(folder.objects).columns


def test_the_report_draws_the_plate(tmp_path: Path) -> None:
    archive = write_plate(tmp_path / "p&q.zarr", halves())
    page = run(archive, tmp_path / "out").report.read_text("utf-8")
    objects = pd.read_parquet(tmp_path / "out" / "objects.parquet")
    count = int((objects["well"] == "B3").sum())
    assert "<h3>p&amp;q</h3>" in page
    assert f"<title>B3: {count}</title>" in page
    assert page.count("<figure><svg") == 3  # objects, median area, mean of the channel
    # The smallest usual plate that holds A1 and B3 has six wells.
    assert page.count('<rect class="on"') == 3 * 2
    assert page.count('<rect x="') == 3 * 4


def test_images_of_parts_are_pictured_where_only_labels_are_written(tmp_path: Path) -> None:
    write_plate(tmp_path / "p.zarr", halves())
    source = {"fields": "stitched", "grid": {"columns": 2}}
    folder = run(tmp_path / "p.zarr", tmp_path / "out", source=source, output={"image": "none"})
    manifest = folder.reading()
    row = manifest.image("p/A/1")
    manifest.close()
    assert row is not None
    from pipeline.report.planes import Picture

    picture = Picture(json_again(row), "error")
    np.testing.assert_array_equal(picture.overview(10, [0])[0], well(0))  # type: ignore[index]
    picture.close()


def json_again(row: Any) -> Any:
    """As it comes from the records."""
    from dataclasses import replace

    return replace(row, details=json.loads(json.dumps(row.details)))


def test_only_and_fresh(tmp_path: Path, here: Callable[..., Any]) -> None:
    import yaml

    write_plate(tmp_path / "p.zarr", halves())
    given, out = tmp_path / "r.yaml", tmp_path / "out"
    given.write_text(yaml.safe_dump({**RECIPE, "output": {"image": "copy"}}))
    here("run", given, tmp_path / "p.zarr", out, "--only", "p/B/*")
    plate = out / "images/p.ome.zarr"
    assert valid(plate) == ["B/3/0", "B/3/1"]
    here("run", given, tmp_path / "p.zarr", out)
    assert valid(plate) == ["A/1/0", "A/1/1", "B/3/0", "B/3/1"]
    result = here("run", given, tmp_path / "p.zarr", out, "--only", "p/C/*", expect=2)
    assert 'none of its 4 images matches "p/C/*"; the first is "p/A/1/0"' in result.output
    here("run", given, tmp_path / "p.zarr", out, "--fresh", "--only", "p/A/1/1")
    assert valid(plate) == ["A/1/1"]
    assert valid(next((out / ".tilewright/previous").glob("*/images/p.ome.zarr")))[0] == "A/1/0"
    text = here("plan", given, tmp_path / "p.zarr").output
    assert "plate p: 2 wells with 2 images each" in text
    here("verify", out)


def test_an_archive_that_is_watched_takes_a_field_when_any_of_its_files_is_new(
    tmp_path: Path,
) -> None:
    from flows.admission import list_sources

    for name in ("A1_1_x", "A1_1_y", "A2_1_x", "A2_1_y"):
        tifffile.imwrite(tmp_path / f"{name}.tif", well(0))
    for source in ({}, {"fields": "stitched"}):
        given = recipe(source={"files": "{well}_{field}_{channel}.tif", **source})
        new = frozenset({str(tmp_path / "A2_1_y.tif")})
        (spec,) = list_sources(Request(given, tmp_path, tmp_path / "out", paths=new))
        assert "/A/2" in spec.name
        assert len(spec.paths) == 2


def test_attributes_of_both_versions_are_read_alike(tmp_path: Path) -> None:
    for version in ("0.4", "0.5"):
        plate = write_plate(tmp_path / version, halves(), version)
        found = ome_attributes(dict(zarr.open_group(plate, mode="r").attrs))
        assert len(found["plate"]["wells"]) == 2  # type: ignore[index]


def test_wells_of_several_labels(tmp_path: Path) -> None:
    archive = write_plate(tmp_path / "p.zarr", halves())
    strict = {"method": "threshold", "foreground": {"value": 190}}
    rest = {"method": "difference", "of": "cells", "without": "cores"}
    sections = {"cells": RECIPE["segment"], "cores": strict, "rest": rest}
    content = {"labels": {name: {"segment": segment} for name, segment in sections.items()}}
    given = parse_any_recipe({**content, "output": {"image": "copy"}}, "recipe")
    folder = in_process.segment(Request(given, archive, tmp_path / "out"))
    plate = folder.images / "p.ome.zarr"
    assert valid(plate) == ["A/1/0", "A/1/1", "B/3/0", "B/3/1"]
    assert not verify_folder(folder.root).damaged
    objects = pd.read_parquet(folder.objects)
    wells = pd.read_parquet(folder.wells)
    assert list(wells["label_image"]) == ["cells", "cores", "rest"] * 2
    assert "cells_label" in objects
    # A mean of numbers says nothing.
    assert not [c for c in wells if "_label" in c]
    for _, found in wells.iterrows():
        rows = objects[
            (objects["well"] == found["well"]) & (objects["label_image"] == found["label_image"])
        ]
        assert len(rows) == found["objects"] > 0
        assert rows["area_px"].mean() == pytest.approx(found["area_px_mean"])
    page = folder.report.read_text("utf-8")
    assert "<h2>1 plate</h2>" in page
    assert "<h3>p · cores</h3>" in page


def test_a_projection_of_a_stitched_well(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    planes = np.stack([well(0), well(1)])
    for z in range(2):
        for k in range(2):
            half = planes[z][:, k * SIDE : (k + 1) * SIDE]
            tifffile.imwrite(tmp_path / "p" / f"A1_s{k}_z{z}.tif", half)
    source = {
        "files": "{well}_s{field}_z{z}.tif",
        "fields": "stitched",
        "grid": {"columns": 2},
        "project": "max",
    }
    folder = run(tmp_path / "p", tmp_path / "out", 21, False, source=source)
    group = folder.images / "p.ome.zarr/A/1/0"
    np.testing.assert_array_equal(np.squeeze(labels_at(group)), labels_of(planes.max(axis=0)))
