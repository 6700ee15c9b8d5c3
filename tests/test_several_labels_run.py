"""Runs that make several label images: what is published, told, checked, and survives a crash."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from shapely.geometry import shape
from skimage.measure import regionprops

from flows.dry_run import dry_run
from flows.request import Request
from flows.viewer.images import RunImages
from flows.viewer.index_page import index_page
from flows.viewer.layers import make_layers
from pipeline.errors import ImageError
from pipeline.labels_recipe import LabelsRecipe
from pipeline.manifest import Manifest, ManifestLedger
from pipeline.measurements.section import MeasureSection
from pipeline.publication import Publication
from pipeline.report.contact_sheet import contact_sheet
from pipeline.scores.find import find_labels
from pipeline.sources import SourceSpec
from pipeline.status import status_text
from pipeline.trial import Cut, run_labels
from pipeline.verify import verify_folder
from tests.in_process import segment
from tests.test_several_labels import three_labels, tissue

NAMES = ["nuclei", "cells", "cytoplasm"]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    folder.mkdir()
    for seed in (0, 1):
        image = tissue(seed=seed).astype(np.uint8)[:, None]
        tifffile.imwrite(folder / f"{seed}.ome.tif", image, metadata={"axes": "CZYX"})
    return folder


def request(archive: Path, out: Path, **more: Any) -> Request:
    given = {key: more.pop(key) for key in ("tile_px", "only") if key in more}
    return Request(three_labels(**more), archive, out, **given)


def in_zarr(archive: Path, tmp_path: Path, zarr_format: int = 3) -> Path:
    """The first image as an OME-Zarr."""
    path = tmp_path / "zarr" / "a.ome.zarr"
    pixels = tifffile.imread(archive / "0.ome.tif").reshape(2, 70, 80)
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)  # type: ignore[arg-type]
    group.create_array("0", data=pixels, chunks=(1, 64, 64))
    scale = {
        "axes": [{"name": "c", "type": "channel"}] + [{"name": a, "type": "space"} for a in "yx"],
        "datasets": [
            {
                "path": "0",
                "coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0, 1.0]}],
            }
        ],
    }
    if zarr_format == 3:
        group.attrs["ome"] = {"version": "0.5", "multiscales": [scale]}
    else:
        group.attrs["multiscales"] = [{"version": "0.4", **scale}]
    return path


def listed(image: Path) -> list[str]:
    attributes: Any = dict(zarr.open_group(image / "labels", mode="r").attrs)
    return list(attributes.get("ome", attributes)["labels"])


@pytest.mark.parametrize("small", [True, False])
def test_all_labels_of_an_image_are_published_together(
    small: bool, archive: Path, tmp_path: Path
) -> None:
    folder = segment(request(archive, tmp_path / "out", tile_px=16), small=small)
    for seed in (0, 1):
        image = folder.image_path(str(seed))
        assert listed(image) == NAMES
        five = tissue(seed=seed).astype(np.uint8)[:, None]
        whole = run_labels(three_labels(), five, tmp_path, Cut(80))
        for name in NAMES:
            stored = zarr.open_array(image / "labels" / name / "0", mode="r")[:]
            np.testing.assert_array_equal(stored, whole[name].labels[0, 0])
    assert not verify_folder(folder.root).damaged
    assert verify_folder(folder.root).certificates == 2


def test_one_table_says_which_label_image_a_row_is_of(archive: Path, tmp_path: Path) -> None:
    folder = segment(request(archive, tmp_path / "out"))
    table = pd.read_parquet(folder.objects)
    assert list(table.columns[:3]) == ["image", "label_image", "label"]
    assert list(dict.fromkeys(zip(table["image"], table["label_image"], strict=True))) == [
        (image, name) for image in ("0", "1") for name in NAMES
    ]
    cells = table[table.label_image == "cells"]
    assert (cells["nuclei_label"] == cells["label"]).all()
    assert table[table.label_image == "nuclei"]["nuclei_label"].isna().all()
    record = folder.read_run()
    assert record["counts"]["objects"] == len(table)
    assert f"{len(table):,} objects" in status_text(folder.root)[0]


def test_a_second_run_has_nothing_to_do_and_another_recipe_is_refused(
    archive: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    folder = segment(request(archive, out))
    before = folder.objects.read_bytes()
    times = {path: path.stat().st_mtime_ns for path in folder.images.rglob("*")}
    segment(request(archive, out, only="*"))
    assert folder.objects.read_bytes() == before
    assert times == {path: path.stat().st_mtime_ns for path in folder.images.rglob("*")}


def test_what_was_changed_afterwards_is_named_with_its_label(archive: Path, tmp_path: Path) -> None:
    folder = segment(request(archive, tmp_path / "out"))
    stored = zarr.open_array(folder.image_path("1") / "labels" / "cells" / "0", mode="r+")
    stored[0, 0] = 77
    pd.read_parquet(folder.table_path("0", "nuclei")).iloc[1:].to_parquet(
        folder.table_path("0", "nuclei")
    )
    damaged = verify_folder(folder.root).damaged
    assert [line for line in damaged if line.startswith("1: cells/labels: shard 0")]
    assert [line for line in damaged if line.startswith("0: ") and "tables/nuclei" in line]
    assert len(damaged) == 2


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_labels_go_into_the_source(zarr_format: int, archive: Path, tmp_path: Path) -> None:
    source = in_zarr(archive, tmp_path, zarr_format)
    other = zarr.open_group(source / "labels", mode="w", zarr_format=zarr_format)  # type: ignore[arg-type]
    if zarr_format == 3:
        other.attrs["ome"] = {"version": "0.5", "labels": ["theirs"]}
    else:
        other.attrs["labels"] = ["theirs"]
    asked = request(source, tmp_path / "out", output={"image": "in_place"}, tile_px=16)
    folder = segment(asked, small=False)
    assert listed(source) == ["theirs", *NAMES]
    assert not verify_folder(folder.root).damaged
    assert not list(source.glob(".tilewright-*"))


class Crash(BaseException):
    """Ends the command as a signal does."""


def crash_at(patch: pytest.MonkeyPatch, owner: Any, name: str, number: int) -> None:
    """Make a method fail in its call of that number, before it does anything."""
    original: Callable[..., Any] = getattr(owner, name)
    calls: list[int] = []

    def fatal(*args: Any, **kwargs: Any) -> Any:
        calls.append(0)
        if len(calls) == number:
            raise Crash
        return original(*args, **kwargs)

    patch.setattr(owner, name, fatal)


@pytest.mark.parametrize(
    ("owner", "name", "number", "image"),
    [
        *((ManifestLedger, "add", number, "none") for number in (3, 12, 27, 36, 41)),
        (ManifestLedger, "close_step", 9, "in_place"),
        (Publication, "_move_in_place", 2, "in_place"),
        (Publication, "publish", 1, "none"),
        (Manifest, "set_image", 1, "none"),
        (Manifest, "set_image", 1, "in_place"),
    ],
)
def test_a_run_goes_on_from_any_label(
    owner: Any,
    name: str,
    number: int,
    image: str,
    archive: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = in_zarr(archive, tmp_path)
    out = tmp_path / "out"
    asked = request(source, out, output={"image": image}, tile_px=40)
    with monkeypatch.context() as patch:
        crash_at(patch, owner, name, number)
        with pytest.raises(Crash):
            segment(asked, small=False)
    repeated: list[str] = []
    add = ManifestLedger.add

    def counted(ledger: ManifestLedger, step: str, receipt: Any) -> None:
        repeated.append(step)
        add(ledger, step, receipt)

    monkeypatch.setattr(ManifestLedger, "add", counted)
    folder = segment(asked, small=False)
    if name == "add":
        # What was recorded before the crash is not done again.
        assert 0 < len(repeated) == ALL_ORDERS - (number - 1)
    assert not verify_folder(folder.root).damaged
    place = source if image == "in_place" else folder.image_path("a")
    assert listed(place) == NAMES
    five = tissue().astype(np.uint8)[:, None]
    whole = run_labels(three_labels(), five, tmp_path, Cut(80))
    for label in NAMES:
        stored = zarr.open_array(place / "labels" / label / "0", mode="r")[:]
        np.testing.assert_array_equal(stored, whole[label].labels[0, 0])
    assert not list(source.glob(".tilewright-*"))


#: Orders of a whole run of the image above, with a tile a batch.
ALL_ORDERS = 43


def test_evaluate_asks_which_labels_are_meant(archive: Path, tmp_path: Path) -> None:
    folder = segment(request(archive, tmp_path / "out"))
    undecided = find_labels(folder.root)
    assert not undecided.images
    assert "Name one with --labels" in str(undecided.failures["0"])
    (image, _) = find_labels(folder.root, "cells").images
    assert image.spec.path.endswith("labels/cells")
    assert image.channels == (1,)


def test_the_report_and_the_contact_sheet_show_every_label(archive: Path, tmp_path: Path) -> None:
    folder = segment(request(archive, tmp_path / "out"))
    page = folder.report.read_text()
    manifest = folder.reading()
    try:
        sheet = contact_sheet(manifest, folder.read_run()["recipe"])
    finally:
        manifest.close()
    for name in NAMES:
        assert f"0 · {name}" in page
        assert f"1 · {name}: " in sheet
    assert "No picture" not in page
    assert "objects of one label, less the pixels of another" in page


def test_the_viewer_shows_every_label(archive: Path, tmp_path: Path) -> None:
    folder = segment(request(archive, tmp_path / "out"))
    manifest = folder.reading()
    try:
        images = RunImages(folder, manifest)
        row, places = images.row(0), images.places(0)
        assert row is not None
        assert places is not None
        layers = make_layers(row, places, images.missing_chunks, "base/")
        page = index_page(images, 0)
    finally:
        manifest.close()
    shown = [layer["name"] for layer in layers.shown if layer["type"] == "segmentation"]
    assert shown == NAMES
    assert not layers.left_out
    for part in json.loads(json.dumps(row.details["labels"])):
        assert f"{part['objects']} {part['label']}" in page


def test_the_plan_is_of_all_labels(archive: Path, tmp_path: Path) -> None:
    text = dry_run(request(archive, tmp_path / "out")).text()
    for name in NAMES:
        assert f"passes over the pixels for {name}" in text


def test_a_label_that_does_not_apply_quarantines_the_image(archive: Path, tmp_path: Path) -> None:
    recipe = three_labels()
    content = recipe.model_dump(mode="json")
    content["labels"]["cells"]["source"]["channels"] = [5]
    changed = LabelsRecipe.model_validate(content)
    folder = segment(Request(changed, archive, tmp_path / "out"))
    text, quarantined = status_text(folder.root)
    assert quarantined == 2
    assert "there is no channel 5" in text


def test_a_missing_earlier_label_is_an_error(tmp_path: Path) -> None:
    from pipeline.sources import open_source

    with pytest.raises(ImageError, match="nuclei"):
        open_source(SourceSpec("ome_zarr", str(tmp_path / "labels" / "nuclei"), "nuclei"))


@pytest.mark.parametrize("small", [True, False])
def test_every_label_has_its_measurements_and_outlines(
    small: bool, archive: Path, tmp_path: Path
) -> None:
    output = {"csv": True, "table": "anndata", "outlines": "geojson"}
    asked = request(archive, tmp_path / "out", tile_px=32, output=output)
    measure = MeasureSection(shape=True, ring_px=2, neighbours=True)
    recipe = asked.recipe
    assert isinstance(recipe, LabelsRecipe)
    labels = {
        name: part.model_copy(update={"measure": measure}) for name, part in recipe.labels.items()
    }
    recipe = recipe.model_copy(update={"labels": labels})
    folder = segment(replace(asked, recipe=recipe), small=small)
    assert verify_folder(folder.root).damaged == []
    table = pd.read_parquet(folder.objects)
    for name in NAMES:
        published = zarr.open_array(folder.image_path("0") / "labels" / name / "0", mode="r")
        pixels = np.squeeze(np.asarray(published[...])).astype(np.int64)
        rows = table[(table["image"] == "0") & (table["label_image"] == name)]
        regions = {region.label: region for region in regionprops(pixels)}
        for row in rows.itertuples():
            region = regions[row.label]
            assert row.area_px == region.area
            assert row.perimeter_px == pytest.approx(region.perimeter, abs=1e-9)
            assert row.convex_area_px == region.area_convex
        text = folder.outlines_path("0", name).read_text("utf-8")
        features = json.loads(text)["features"]
        assert [int(f["properties"]["name"]) for f in features] == rows["label"].tolist()
        areas = [shape(f["geometry"]).area for f in features]
        assert areas == rows["area_px"].tolist()
    tables = zarr.open_group(folder.image_path("0") / "tables", mode="r")
    assert tables.attrs["tables"] == NAMES
    folder.outlines_path("0", "cells").write_text("{}")
    assert len(verify_folder(folder.root).damaged) == 1
