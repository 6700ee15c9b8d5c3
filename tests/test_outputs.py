"""What is written beside labels and table where a recipe asks for it: CSV, AnnData, outlines."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import anndata
import geojson_pydantic
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import shapely
import tifffile
import zarr
from shapely.geometry import shape

from flows.request import Request
from pipeline.annotations.shape_files import read_file
from pipeline.companions import Companion
from pipeline.manifest import Manifest, ManifestLedger
from pipeline.publication import Publication
from pipeline.recipe import parse_recipe
from pipeline.run_folder import RunFolder
from pipeline.table_file import table_digest
from pipeline.verify import verify_folder
from tests import in_process

ALL = {"csv": True, "table": "anndata", "outlines": "geojson"}
SIZE = (40, 45)


def blobs(seed: int = 0) -> np.ndarray:
    """Objects of all sizes with holes; some consist of pixels that meet in corners."""
    generator = np.random.default_rng(seed)
    coarse = generator.random((10, 12)) > 0.7
    plane = np.kron(coarse, np.ones((4, 4), bool))[: SIZE[0], : SIZE[1]]
    plane &= generator.random(SIZE) > 0.05
    return np.where(plane, 150 + generator.integers(0, 100, SIZE), 10).astype(np.uint8)


def run(
    folder: Path, side: int = 16, small: bool | None = None, name: str = "out", **content: Any
) -> RunFolder:
    archive = folder / "archive"
    if not archive.exists():
        archive.mkdir()
        sizes = {f"PhysicalSize{a}{end}": v for a in "XY" for end, v in (("", 0.5), ("Unit", "µm"))}
        tifffile.imwrite(archive / "a.tif", blobs(), ome=True, metadata={"axes": "YX", **sizes})
        (archive / "plate").mkdir()
        tifffile.imwrite(archive / "plate" / "b.tif", np.zeros(SIZE, np.uint8))
    recipe = parse_recipe(
        {
            "label": "cells",
            "segment": {"method": "threshold", "foreground": {"value": 100}},
            "measure": {"shape": True},
            "output": ALL,
            **content,
        },
        "recipe",
    )
    request = Request(recipe, archive, folder / name, tile_px=side)
    return in_process.segment(request, small=small)


def labels_of(folder: RunFolder, name: str = "a") -> np.ndarray:
    return np.asarray(zarr.open(folder.image_path(name) / "labels/cells/0", mode="r")[...])


@pytest.mark.parametrize("small", [True, False])
def test_all_files_are_there_and_verified(small: bool, tmp_path: Path) -> None:
    folder = run(tmp_path, small=small)
    assert verify_folder(folder.root).damaged == []
    for path in (
        folder.outlines_path("a"),
        folder.objects_csv,
        next(p for p in (folder.image_path("a") / "tables/cells/X/c").rglob("*") if p.is_file()),
    ):
        before = path.read_bytes()
        path.write_bytes(before.replace(b"1", b"2", 1) + b" ")
        assert len(verify_folder(folder.root).damaged) == 1, path
        path.write_bytes(before)
    folder.outlines_path("plate/b").unlink()
    shutil.rmtree(folder.image_path("a") / "tables")
    damaged = verify_folder(folder.root).damaged
    assert sorted(item.split(":")[0] for item in damaged) == ["a", "plate/b"]


def test_files_do_not_depend_on_the_tiles(tmp_path: Path) -> None:
    first, second = run(tmp_path, 16, False), run(tmp_path, 31, True, "again")
    for path in (first.outlines_path("a"), first.objects_csv):
        other = second.root / path.relative_to(first.root)
        assert path.read_bytes() == other.read_bytes()
    details = []
    for folder in (first, second):
        manifest = folder.reading()
        details.append([(row.name, row.details["files"]) for row in manifest.images()])
        manifest.close()
    assert details[0] == details[1]


class Crash(BaseException):
    """Ends the command as a signal does: nothing handles it."""


def crash(*given: Any) -> None:
    raise Crash


@pytest.mark.parametrize("place", ["measure", "write", "publish", "publish_in_place", "record"])
def test_files_survive_a_crash(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run(tmp_path, name="expected", output={**ALL, "image": "copy"})
    output: dict[str, Any] = {**ALL, "image": "copy"}
    if place == "publish_in_place":
        image = tmp_path / "archive/a.ome.zarr"
        (tmp_path / "archive/a.tif").unlink()
        shutil.move(expected.image_path("a"), image)
        shutil.rmtree(image / "labels")
        shutil.rmtree(image / "tables")
        (tmp_path / "archive/plate/b.tif").unlink()
        output["image"] = "in_place"
    add = ManifestLedger.add

    def add_one(ledger: ManifestLedger, step: str, receipt: Any) -> None:
        add(ledger, step, receipt)
        if step == "measure":
            raise Crash

    with monkeypatch.context() as patched:
        if place == "measure":
            patched.setattr(ManifestLedger, "add", add_one)
        elif place == "write":
            patched.setattr("pipeline.extra_files.write_anndata", crash)
        elif place == "record":
            patched.setattr(Manifest, "set_image", crash)
        else:
            patched.setattr(Publication, place, crash)
        with pytest.raises(Crash):
            run(tmp_path, small=False, output=output)
    folder = run(tmp_path, small=False, output=output)
    assert verify_folder(folder.root).damaged == []
    assert folder.outlines_path("a").read_bytes() == expected.outlines_path("a").read_bytes()
    assert table_digest(folder.table_path("a")) == table_digest(expected.table_path("a"))


def test_nothing_is_written_that_is_not_asked_for(tmp_path: Path) -> None:
    folder = run(tmp_path, output={})
    assert not folder.objects_csv.exists()
    assert not folder.outlines.exists()
    assert not (folder.image_path("a") / "tables").exists()
    assert verify_folder(folder.root).damaged == []


def test_files_of_others_are_moved_aside(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "images").mkdir(parents=True)
    names = ("objects.parquet", "recipe.yaml", "report.html", "run.json", "notes.txt")
    for name in (*names, "images/own.tif"):
        (out / name).write_text("mine")
    run(tmp_path)
    (kept,) = (out / ".tilewright" / "previous").iterdir()
    assert {path.name for path in kept.iterdir()} == set(names) - {"notes.txt"}
    assert all(path.read_text() == "mine" for path in kept.iterdir())
    assert (out / "notes.txt").read_text() == (out / "images" / "own.tif").read_text() == "mine"
    assert not verify_folder(out).damaged


def test_the_csv_has_the_tables_numbers(tmp_path: Path) -> None:
    folder = run(tmp_path)
    table = pq.read_table(folder.objects).to_pandas()
    text = pd.read_csv(folder.objects_csv)
    assert list(text.columns) == list(table.columns)
    assert len(text) > 3
    for name in table.columns:
        if table[name].dtype.kind == "f":
            assert np.array_equal(text[name].to_numpy(float), table[name].to_numpy(), True), name
        else:
            assert text[name].tolist() == table[name].tolist(), name


def test_outlines_are_valid_geojson_and_the_labels(tmp_path: Path) -> None:
    folder = run(tmp_path)
    labels = labels_of(folder)
    text = folder.outlines_path("a").read_text("utf-8")
    geojson_pydantic.FeatureCollection.model_validate_json(text)
    features = json.loads(text)["features"]
    rows = pq.read_table(folder.objects).to_pylist()
    drawn = np.zeros_like(labels)
    y, x = np.indices(SIZE) + 0.5
    for row, feature in zip(rows, features, strict=True):
        polygon = shape(feature["geometry"])
        assert polygon.is_valid
        assert polygon.area == row["area_px"]
        drawn[shapely.contains_xy(polygon, x, y)] = row["label"]
        properties = feature["properties"]
        assert properties["objectType"] == "detection"
        assert properties["name"] == str(row["label"])
        assert properties["classification"]["name"] == "cells"
        assert properties["measurements"]["perimeter_px"] == row["perimeter_px"]
        assert feature["geometry"]["plane"] == {"c": -1, "z": 0, "t": 0}
    assert np.array_equal(drawn, labels)
    assert len({feature["id"] for feature in features}) == len(rows) > 3
    empty = json.loads(folder.outlines_path("plate/b").read_text("utf-8"))
    assert empty == {"type": "FeatureCollection", "features": []}


def test_our_own_reader_finds_the_objects_boxes(tmp_path: Path) -> None:
    folder = run(tmp_path)
    path = folder.outlines_path("a")
    found = list(read_file(Companion(str(path), "", None), None, "a"))  # type: ignore[arg-type]
    table = pq.read_table(folder.objects)
    for one, row in zip(found, table.to_pylist(), strict=True):
        start, stop = one.vertices.min(axis=0), one.vertices.max(axis=0)
        assert start.tolist() == [row["bbox_y_start_px"], row["bbox_x_start_px"]]
        assert stop.tolist() == [row["bbox_y_stop_px"], row["bbox_x_stop_px"]]


def test_objects_of_volumes_have_an_outline_in_every_plane(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    volume = np.zeros((5, 20, 22), np.uint8)
    volume[1:4, 3:9, 4:15] = 200
    volume[2, 5, 6] = 0
    volume[4, 18:, 20:] = 200
    tifffile.imwrite(archive / "a.tif", volume, metadata={"axes": "ZYX"}, ome=True)
    folder = run(tmp_path, 16, source={"dims": "3d"}, output={**ALL, "outline_type": "annotation"})
    features = json.loads(folder.outlines_path("a").read_text("utf-8"))["features"]
    found = [(f["properties"]["name"], f["geometry"]["plane"]["z"]) for f in features]
    assert found == [("1", 1), ("1", 2), ("1", 3), ("2", 4)]
    assert [shape(f["geometry"]).area for f in features] == [66, 65, 66, 4]
    assert {f["properties"]["objectType"] for f in features} == {"annotation"}


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_anndata_reads_the_table(zarr_format: int, tmp_path: Path) -> None:
    folder = run(tmp_path)
    path = folder.image_path("a") / "tables/cells"
    if zarr_format == 2:  # beside an OME-Zarr 0.4
        from pipeline.anndata_table import write_anndata

        path = tmp_path / "old.zarr/tables/cells"
        write_anndata(path, folder.table_path("a"), "cells", 2)
    found = anndata.read_zarr(path)
    table = pq.read_table(folder.table_path("a")).to_pandas()
    assert found.obs["label"].tolist() == table["label"].tolist()
    assert set(found.obs["region"]) == {"cells"}
    assert found.uns["spatialdata_attrs"] == {
        "region": "cells",
        "region_key": "region",
        "instance_key": "label",
    }
    assert "area_px" in found.var_names
    for name in found.var_names:
        expected = table[name].to_numpy(np.float64)
        assert np.array_equal(np.asarray(found[:, name].X)[:, 0], expected, True), name
    assert zarr.open_group(path.parent, mode="r").attrs["tables"] == ["cells"]
    if zarr_format == 3:
        assert len(anndata.read_zarr(folder.image_path("plate/b") / "tables/cells")) == 0


def test_tables_of_others_stay_in_an_archive(tmp_path: Path) -> None:
    copied = run(tmp_path)
    shutil.rmtree(tmp_path / "archive")
    (tmp_path / "archive").mkdir()
    image = tmp_path / "archive" / "a.ome.zarr"
    shutil.move(copied.image_path("a"), image)
    shutil.rmtree(image / "labels")
    shutil.rmtree(image / "tables")
    zarr.open_group(image / "tables/theirs", mode="w").attrs["made"] = "elsewhere"
    zarr.open_group(image / "tables", mode="a").attrs["tables"] = ["theirs"]
    in_place = {"image": "in_place", **ALL}
    folder = run(tmp_path, name="first", output=in_place)
    assert verify_folder(folder.root).damaged == []
    assert zarr.open_group(image / "tables", mode="r").attrs["tables"] == ["theirs", "cells"]
    assert len(anndata.read_zarr(image / "tables/cells")) > 3
    run(tmp_path, name="second", output={"image": "in_place"})
    assert not (image / "tables/cells").exists(), "it belongs to labels that are gone"
    assert zarr.open_group(image / "tables/theirs", mode="r").attrs["made"] == "elsewhere"
    zarr.open_group(image / "tables/cells", mode="w").attrs["made"] = "elsewhere"
    run(tmp_path, name="third", output={"image": "in_place"}, measure={"shape": False})
    assert zarr.open_group(image / "tables/cells", mode="r").attrs["made"] == "elsewhere"
