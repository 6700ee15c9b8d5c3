"""What users really have: damaged files, odd images, wrong arguments; said plainly, not hidden."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import struct
import time
import zlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
import yaml
import zarr
from click.testing import Result
from PIL import Image

from pipeline.run_folder import RunFolder

Here = Callable[..., Result]

RECIPE = {"segment": {"method": "threshold"}}

#: Each file that cannot be segmented, and what must be said of it.
BAD = {
    "truncated.tif": "is cut off",
    "truncated.png": "cannot be decoded",
    "empty.tif": "is empty (0 bytes)",
    "text.tif": "is not a TIFF file",
    "text.png": "is neither a PNG nor a JPEG file",
    "dangling.tif": "no such file",
    "complex.tif": "complex",
    "two_channels.tif": "2 are selected",
    "bomb.png": "60000 x 60000 px",
    "bomb.tif": "the limit",
    "zero.ome.zarr": "the image is empty",
    "missing.ome.zarr": "is missing",
    "corrupt.ome.zarr": "cannot be decoded",
    "broken.ome.zarr": "not understood",
}
#: Each image that can, with its number of objects where it is known.
GOOD: dict[str, int | None] = {
    "one_pixel": 0,
    "one_row": None,
    "one_bit": 2,
    "constant": 0,
    "zeros": 0,
    "all_nan": 0,
    "nan_and_inf": 2,
    "half_floats": 2,
    "zellen/grün µm (Kopie 2)": 2,
    "細胞": 2,
    "SAME.tif": 2,
    "same.png": 2,
    "same.tif_2": 2,
    "copies/first": 2,
    "copies/second": 2,
}


def two_blobs(dtype: str = "uint8", side: int = 64) -> np.ndarray:
    pixels = np.zeros((side, side), dtype)
    pixels[8:20, 8:20] = pixels[30:50, 30:45] = 100
    return pixels


def write_zarr(path: Path, pixels: np.ndarray, version: str = "0.5") -> Path:
    """An OME-Zarr image of 16 x 16 chunks without a pyramid."""
    group = zarr.open_group(path, mode="w", zarr_format=3 if version == "0.5" else 2)
    chunks = tuple(min(16, max(1, n)) for n in pixels.shape)
    array = group.create_array(
        "0",
        shape=pixels.shape,
        chunks=chunks,
        dtype=pixels.dtype,
        dimension_names=list("yx") if version == "0.5" else None,
        config={"write_empty_chunks": True},
    )
    if pixels.size:
        array[...] = pixels
    scale = [{"type": "scale", "scale": [1.0, 1.0]}]
    multiscale: dict[str, Any] = {
        "axes": [{"name": name, "type": "space"} for name in "yx"],
        "datasets": [{"path": "0", "coordinateTransformations": scale}],
        "name": "image",
    }
    if version == "0.5":
        group.attrs["ome"] = {"version": version, "multiscales": [multiscale]}
    else:
        group.attrs["multiscales"] = [{**multiscale, "version": version}]
    return path


def png_header(side: int) -> bytes:
    """A PNG file of a few bytes that claims to be large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(100)))


def write_bad(folder: Path) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (64, 64), np.uint8)
    tifffile.imwrite(folder / "truncated.tif", noise)
    Image.fromarray(noise).save(folder / "truncated.png")
    for name in ("truncated.tif", "truncated.png"):
        os.truncate(folder / name, (folder / name).stat().st_size // 2)
    (folder / "empty.tif").touch()
    for name in ("text.tif", "text.png"):
        (folder / name).write_text("Dear colleague, the images are on the other disk.\n")
    (folder / "dangling.tif").symlink_to(folder / "elsewhere.tif")
    tifffile.imwrite(folder / "complex.tif", two_blobs("complex64"))
    tifffile.imwrite(
        folder / "two_channels.tif", np.stack([noise, noise]), imagej=True, metadata={"axes": "CYX"}
    )
    (folder / "bomb.png").write_bytes(png_header(60000))
    tifffile.imwrite(folder / "bomb.tif", noise, tile=(64, 64), compression="zlib")
    with tifffile.TiffFile(folder / "bomb.tif", mode="r+") as tif:
        for tag in ("ImageWidth", "ImageLength", "TileWidth", "TileLength"):
            tif.pages[0].tags[tag].overwrite(1 << 16)
    write_zarr(folder / "zero.ome.zarr", np.zeros((0, 64), np.uint8))
    for name in ("missing", "corrupt", "broken"):
        write_zarr(folder / f"{name}.ome.zarr", noise)
    (folder / "missing.ome.zarr/0/c/1/2").unlink()
    (folder / "corrupt.ome.zarr/0/c/1/2").write_bytes(b"not zstd at all")
    (folder / "broken.ome.zarr/zarr.json").write_text('{"zarr_format": 3, ')


def write_good(folder: Path) -> None:
    blobs = two_blobs()
    tifffile.imwrite(folder / "one_pixel.tif", np.full((1, 1), 7, np.uint8))
    tifffile.imwrite(folder / "one_row.tif", blobs[10:11])
    Image.fromarray(blobs > 0).save(folder / "one_bit.tif")
    tifffile.imwrite(folder / "constant.tif", np.full((40, 30), 9, np.uint16))
    tifffile.imwrite(folder / "zeros.tif", np.zeros((40, 30), np.uint8))
    tifffile.imwrite(folder / "all_nan.tif", np.full((40, 30), np.nan, np.float32))
    holes = two_blobs("float32")
    holes[0, :3], holes[60, 60] = (np.nan, np.inf, -np.inf), np.nan
    tifffile.imwrite(folder / "nan_and_inf.tif", holes)
    tifffile.imwrite(folder / "half_floats.tif", two_blobs("float16"))
    (folder / "zellen").mkdir()
    tifffile.imwrite(folder / "zellen" / "grün µm (Kopie 2).tif", blobs)
    Image.fromarray(blobs).save(folder / "細胞.png")
    for name in ("same.tif", "SAME.tif"):
        tifffile.imwrite(folder / name, blobs)
    Image.fromarray(blobs).save(folder / "same.png")
    (folder / "copies").mkdir()
    tifffile.imwrite(folder / "copies/first.tif", blobs)
    shutil.copy2(folder / "copies/first.tif", folder / "copies/second.tif")


@dataclass(frozen=True)
class Bad:
    """A run over good and bad files."""

    archive: Path
    recipe: Path
    out: Path
    output: str


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory, tilewright: Any) -> Bad:
    folder = tmp_path_factory.mktemp("bad input")
    archive, recipe = folder / "archive", folder / "simple.yaml"
    archive.mkdir()
    write_bad(archive)
    write_good(archive)
    recipe.write_text(yaml.safe_dump(RECIPE))
    out = folder / "out"
    output = tilewright("run", recipe, archive, out, "--tile", 32, "--workers", 2, expect=3)
    return Bad(archive, recipe, out, output)


def rows(out: Path) -> dict[str, dict[str, Any]]:
    """Images on record, by name."""
    with closing(sqlite3.connect(out / "run.sqlite")) as records:
        records.row_factory = sqlite3.Row
        return {row["name"]: dict(row) for row in records.execute("SELECT * FROM image")}


def stamps(out: Path) -> dict[Path, tuple[int, int]]:
    """Inode and time of every published file."""
    found = [path for path in (out / "images").rglob("*") if path.is_file()]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def labels_of(out: Path, name: str) -> np.ndarray:
    place = out / "images" / f"{name}.ome.zarr" / "labels" / "simple" / "0"
    return np.asarray(zarr.open_array(place, mode="r")[...])


def plain(name: str) -> str:
    return name.split(".")[0]


def test_bad_files_are_quarantined_and_say_why(bad: Bad, here: Here) -> None:
    found = rows(bad.out)
    status = here("status", bad.out, expect=3).stdout
    for name, reason in BAD.items():
        row = found[plain(name)] if plain(name) in found else found[name]
        assert row["status"] == "quarantined", name
        assert plain(name) in row["reason"]
        assert reason in row["reason"].lower() or reason in row["reason"]
        assert row["reason"] in status
        assert f"quarantined: {row['reason']}" in bad.output
    assert "Traceback" not in bad.output
    record = json.loads((bad.out / "run.json").read_text())
    assert record["counts"]["quarantined"] == len(BAD)


def test_good_files_beside_them_are_published(bad: Bad) -> None:
    found = rows(bad.out)
    assert {name for name, row in found.items() if row["status"] == "published"} == set(GOOD)
    table = pq.read_table(bad.out / "objects.parquet")
    for name, count in GOOD.items():
        labels = labels_of(bad.out, name)
        objects = json.loads(found[name]["details"])["objects"]
        assert labels.max() == objects
        assert set(np.unique(labels)) | {0} == set(range(objects + 1))
        assert count in (None, objects)
        assert table["image"].to_pylist().count(name) == objects


def test_nothing_stands_where_an_image_failed(bad: Bad) -> None:
    published = {path.parent.parent.parent for path in bad.out.glob("images/**/labels/simple/0")}
    names = {path.relative_to(bad.out / "images").as_posix() for path in published}
    assert names == {f"{name}.ome.zarr" for name in GOOD}
    assert set(pq.read_table(bad.out / "objects.parquet")["image"].to_pylist()) <= set(GOOD)


def test_what_is_published_verifies(bad: Bad, here: Here) -> None:
    assert f"{len(GOOD)} images" in here("verify", bad.out).stdout


def test_a_repaired_file_is_published_and_nothing_else_is_done(
    bad: Bad, here: Here, tmp_path: Path
) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    archive.mkdir()
    tifffile.imwrite(archive / "good.tif", two_blobs())
    (archive / "later.tif").touch()
    (archive / "gone.tif").touch()
    here("run", bad.recipe, archive, out, expect=3)
    before = stamps(out)
    tifffile.imwrite(archive / "later.tif", two_blobs())
    (archive / "gone.tif").unlink()
    here("run", bad.recipe, archive, out)
    assert {path: stamp for path, stamp in stamps(out).items() if path in before} == before
    assert {name: row["status"] for name, row in rows(out).items()} == {
        "good": "published",
        "later": "published",
    }


def test_a_file_without_permission(
    bad: Bad, here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.tif"
    tifffile.imwrite(path, two_blobs())
    plain_open = Path.open

    def refuse(self: Path, *args: Any, **options: Any) -> Any:
        if self == path:
            raise PermissionError(13, "Permission denied", str(self))
        return plain_open(self, *args, **options)

    monkeypatch.setattr(Path, "open", refuse)
    here("run", bad.recipe, path, tmp_path / "out", expect=3)
    reason = rows(tmp_path / "out")["mine"]["reason"]
    assert (
        reason
        == f"{path}: cannot be opened: permission denied. Check the path and its permissions."
    )


@pytest.fixture
def simple(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Recipe, archive and output of a small request."""
    archive, recipe = tmp_path / "archive", tmp_path / "simple.yaml"
    archive.mkdir()
    for name in ("a", "b"):
        tifffile.imwrite(archive / f"{name}.tif", two_blobs())
    recipe.write_text(yaml.safe_dump(RECIPE))
    return recipe, archive, tmp_path / "out"


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ("nuclie", "did you mean 'nuclei'?"),
        ("no/such.yaml", "no/such.yaml: there is no such recipe file"),
        ({"segment": {"method": "treshold"}}, "did you mean 'threshold'?"),
        ({"segment": {"method": "threshold", "conectivity": 4}}, "did you mean 'connectivity'?"),
        ({**RECIPE, "postproces": {}}, "did you mean 'postprocess'?"),
        ({**RECIPE, "output": {"image": "link"}}, "output.image"),
        ({"label": "x"}, "segment"),
        ([1, 2], "a recipe is a mapping of keys, not list"),
    ],
)
def test_wrong_recipes_are_refused(
    recipe: Any, said: str, simple: tuple[Path, Path, Path], here: Here
) -> None:
    path, archive, out = simple
    if not isinstance(recipe, str):
        path.write_text(yaml.safe_dump(recipe))
        recipe = path
    assert said in here("run", recipe, archive, out, expect=2).stderr
    assert not out.exists()


def test_wrong_archives_are_refused_before_anything_is_written(
    simple: tuple[Path, Path, Path], here: Here, tmp_path: Path
) -> None:
    recipe, archive, out = simple
    (tmp_path / "nothing").mkdir()
    said = here("run", recipe, tmp_path / "nothing", out, expect=2).stderr
    assert "holds no image" in said
    assert ".tif" in said
    assert "does not exist" in here("run", recipe, tmp_path / "archiev", out, expect=2).stderr
    said = here("run", recipe, archive, out, "--only", "c*", expect=2).stderr
    assert 'none of its 2 images matches "c*"; the first is "a.tif"' in said
    assert "is the archive itself" in here("run", recipe, archive, archive, expect=2).stderr
    assert not out.exists()
    assert sorted(path.name for path in archive.iterdir()) == ["a.tif", "b.tif"]


def test_what_cannot_fit_is_refused(
    simple: tuple[Path, Path, Path], here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, archive, out = simple
    recipe.write_text(yaml.safe_dump({**RECIPE, "resources": {"memory_gib": 0.3}}))
    for command in (("run", recipe, archive, out), ("plan", recipe, archive, "--out", out)):
        said = here(*command, "--tile", 4096, "--workers", 1, expect=2).stderr
        assert "of memory in a worker, 0.30 GiB are allowed" in said
        assert "resources.memory_gib" in said
    recipe.write_text(yaml.safe_dump(RECIPE))
    usage = shutil.disk_usage(archive)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
        for command in (("run", recipe, archive, out), ("plan", recipe, archive, "--out", out)):
            said = here(*command, expect=2).stderr
            assert "0.00 GiB are free" in said
            assert "output: {image: none}" in said
    here("run", recipe, archive, out)


def test_an_output_that_cannot_be_used_is_refused(
    simple: tuple[Path, Path, Path], here: Here, tmp_path: Path
) -> None:
    recipe, archive, out = simple
    out.write_text("a file")
    assert "a file is in its place" in here("run", recipe, archive, out, expect=2).stderr
    assert "no run was ever started here" in here("status", out, expect=2).stderr
    out.unlink()
    with RunFolder(out).writing():
        said = here("run", recipe, archive, out, expect=2).stderr
        assert "another run is writing to this folder" in said
        said = here("run", recipe, archive, out, "--fresh", expect=2).stderr
        assert "another run is writing to this folder" in said
    shutil.rmtree(out)
    out.mkdir()
    (out / "run.sqlite").write_text("not a database, but text" * 100)
    assert "run's records cannot be opened" in here("run", recipe, archive, out, expect=2).stderr
    assert "run's records cannot be opened" in here("status", out, expect=2).stderr


def test_an_output_of_another_request_is_refused_and_set_aside_on_demand(
    simple: tuple[Path, Path, Path], here: Here
) -> None:
    recipe, archive, out = simple
    here("run", recipe, archive, out)
    before = stamps(out)
    recipe.write_text(yaml.safe_dump({**RECIPE, "postprocess": {"min_size_px": 200}}))
    said = here("run", recipe, archive, out, expect=2).stderr
    assert "holds the results of another recipe" in said
    assert "--fresh" in said
    assert stamps(out) == before
    here("run", recipe, archive, out, "--fresh")
    assert labels_of(out, "a").max() == 1
    (kept,) = (out / ".tilewright" / "previous").iterdir()
    assert {path.relative_to(kept): stamp for path, stamp in stamps(kept).items()} == {
        path.relative_to(out): stamp for path, stamp in before.items()
    }
    assert {path.name for path in kept.iterdir()} >= {"images", "run.json", "run.sqlite"}


def test_a_request_that_came_to_nothing_does_not_bind_its_output(
    simple: tuple[Path, Path, Path], here: Here
) -> None:
    recipe, archive, out = simple
    tight = {**RECIPE, "postprocess": {"min_size_px": 2}, "resources": {"memory_gib": 0.1}}
    recipe.write_text(yaml.safe_dump(tight))
    here("run", recipe, archive, out, expect=2)
    recipe.write_text(yaml.safe_dump(RECIPE))
    here("run", recipe, archive, out)


def test_a_finished_run_is_left_as_it_is(simple: tuple[Path, Path, Path], here: Here) -> None:
    recipe, archive, out = simple
    here("run", recipe, archive, out, "--only", "b")
    first = stamps(out)
    assert set(rows(out)) == {"b"}
    here("run", recipe, archive, out)
    assert set(rows(out)) == {"a", "b"}
    second = stamps(out)
    assert second.items() > first.items()
    begun = time.monotonic()
    here("run", recipe, archive, out, "--resume")
    assert time.monotonic() - begun < 5.0
    assert stamps(out) == second


def test_labels_do_not_depend_on_tiles_and_workers(
    bad: Bad, here: Here, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = set()
    for number, (tile, small_px) in enumerate([(64, 0), (100, 1 << 22), (512, 1 << 22)]):
        monkeypatch.setattr("pipeline.plan.SMALL_PX", small_px)
        out = tmp_path / str(number)
        image = demo / "crowded" / "4d4ebfcae437.png"
        here("run", "nuclei", image, out, "--tile", tile, "--workers", 1 + number)
        record = json.loads((out / "run.json").read_text())
        table = {row["details_digest"] for row in table_digests(out)}
        found.add((record["certificate"]["labels_digest"], frozenset(table)))
    assert len(found) == 1


def table_digests(out: Path) -> list[dict[str, str]]:
    return [
        {"details_digest": json.loads(row["details"])["table_digest"]} for row in rows(out).values()
    ]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_labels_go_into_the_source_image(
    version: str, simple: tuple[Path, Path, Path], here: Here
) -> None:
    recipe, archive, out = simple
    shutil.rmtree(archive)
    image = write_zarr(archive / "cells.ome.zarr", two_blobs(), version)
    labels = image / "labels"
    before = {path: path.read_bytes() for path in image.rglob("*") if path.is_file()}
    recipe.write_text(yaml.safe_dump({**RECIPE, "output": {"image": "in_place"}}))
    here("run", recipe, archive, out)
    assert {path: path.read_bytes() for path in before} == before
    assert sorted(path.name for path in image.iterdir() if path.is_dir()) == ["0", "labels"]
    validate(labels, version)
    assert np.asarray(zarr.open_array(labels / "simple/0", mode="r")[...]).max() == 2
    here("verify", out)
    again = {path: path.stat().st_mtime_ns for path in image.rglob("*")}
    here("run", recipe, archive, out)
    assert {path: path.stat().st_mtime_ns for path in image.rglob("*")} == again


def validate(labels: Path, version: str) -> None:
    """As the specification has them, and listed."""
    if version == "0.5":
        from ome_zarr_models.v05 import Image as Model
        from ome_zarr_models.v05 import Labels
        from ome_zarr_models.v05.image_label import ImageLabel
    else:
        from ome_zarr_models.v04 import Image as Model
        from ome_zarr_models.v04 import Labels
        from ome_zarr_models.v04.image_label import ImageLabel

    Model.from_zarr(zarr.open_group(labels.parent, mode="r"))
    attributes = Labels.from_zarr(zarr.open_group(labels, mode="r")).attributes
    listed = attributes.ome.labels if version == "0.5" else attributes.labels
    assert listed == ["simple"]
    ImageLabel.from_zarr(zarr.open_group(labels / "simple", mode="r"))


# --- Names ---------------------------------------------------------------------------------------


def test_a_name_that_is_not_utf8_stops_nothing(
    here: Callable[..., Any], demo: Path, tmp_path: Path
) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    archive.mkdir()
    content = next((demo / "crowded").iterdir()).read_bytes()
    for name in (b"good.png", b"caf\xe9.png"):
        (archive / os.fsdecode(name)).write_bytes(content)
    (archive / os.fsdecode(b"bad\xff.png")).write_bytes(content[:50])
    result = here("run", "nuclei", archive, out, expect=3)
    assert "2 of 3 images published" in result.output
    assert (out / "images" / r"caf\xe9.ome.zarr").is_dir()
    text = here("status", out, expect=3).output
    assert r"bad\xff.png" in text
    here("verify", out)
