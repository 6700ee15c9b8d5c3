"""Rebuild this folder's images from a copy of the collection they were taken from.

    python tests/data/make.py COLLECTION

COLLECTION holds MANIFEST.tsv and the files it names. PNG files and the OME-Zarr image are
copied byte for byte; the montage and the crop are made here. README.md is not touched.
"""

from __future__ import annotations

import csv
import shutil
import sys
import uuid
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

HERE = Path(__file__).parent
FOLDERS = ("demo", "truth", "histology", "unseen")

# demo folder -> the first 12 digits of BBBC038 image names
FIELDS = {
    "small_nuclei": ["6fe2df6de1d9", "c75139ef0546", "648636ee314d"],
    "large_nuclei": ["449f41710769", "3ca8181367fc", "28d33efef218"],
    "crowded": ["547ef286ee5f", "a9d884ba0929", "4d4ebfcae437", "d256b32adda3"],
    "noisy": ["f728de042672"],
}
# stained tissue, for methods that look at colours
HISTOLOGY = ["4590d7d47f52"]
# of the part of the collection that no shipped model learned from: the first of each size
UNSEEN = {
    "fluorescence": [
        "0b2e702f90ae",
        "1400420310c9",
        "1c8b905c9519",
        "70827e40a715",
        "a6515d730778",
    ],
    "he": ["0e4c2e2780de"],
}
# sixteen fields of 520 x 696 with the same look, in reading order
MONTAGE_COLUMNS = 4
MONTAGE = [
    "d52958107d0b", "2cfa61bef654", "76faaed50ed6", "61dc249314d7",
    "4596961c789d", "bb8ebf465c96", "4d2cff9a0c8d", "b76ff33ae9da",
    "bde3727f3a9e", "98a463483fe3", "53ad09e43487", "e52960d31f8b",
    "cc8862734430", "49edc2f77151", "1f6b7cead153", "958114e5f37d",
]  # fmt: skip
ZARR = "ome_zarr/bbbc022_3ch_v05.zarr"
CROP = "multichannel/BBBC022_IXMtest_A02_s9_crop.tif"
CROP_BOX = (slice(None), slice(0, 256), slice(348, 695))
OME = {"Creator": "tests/data/make.py"}
DEFLATE = {"compression": "deflate", "compressionargs": {"level": 12}, "predictor": 2}


def read_manifest(collection: Path) -> dict[str, dict[str, str]]:
    """Rows of MANIFEST.tsv by path."""
    with (collection / "MANIFEST.tsv").open(newline="") as lines:
        return {row["path"]: row for row in csv.DictReader(lines, delimiter="\t")}


def demand_cc0(manifest: dict[str, dict[str, str]], path: str) -> None:
    """Refuse a file whose licence is not CC0."""
    if not manifest[path]["licence"].startswith("CC0"):
        raise SystemExit(f"{path}: licence {manifest[path]['licence']!r} is not CC0")


def copy_fields(collection: Path, manifest: dict[str, dict[str, str]]) -> None:
    """Copy the single fields and their ground truth."""
    for folder, names in FIELDS.items():
        for name in names:
            image = f"nuclei/train/images/{name}.png"
            demand_cc0(manifest, image)
            copy(collection / image, HERE / "demo" / folder / f"{name}.png")
            truth = collection / manifest[image]["ground_truth"]
            copy(truth, HERE / "truth" / folder / f"{name}.png")


def copy_histology(collection: Path, manifest: dict[str, dict[str, str]]) -> None:
    """Copy the colour images and their ground truth."""
    for name in HISTOLOGY:
        image = f"nuclei/train/images/{name}.png"
        demand_cc0(manifest, image)
        copy(collection / image, HERE / "histology" / f"{name}.png")
        truth = collection / manifest[image]["ground_truth"]
        copy(truth, HERE / "truth" / "histology" / f"{name}.png")


def copy_unseen(collection: Path, manifest: dict[str, dict[str, str]]) -> None:
    """Copy the images that shipped models are tested on."""
    for folder, names in UNSEEN.items():
        for name in names:
            image = f"nuclei/val/images/{name}.png"
            demand_cc0(manifest, image)
            copy(collection / image, HERE / "unseen" / folder / "images" / f"{name}.png")
            truth = collection / manifest[image]["ground_truth"]
            copy(truth, HERE / "unseen" / folder / "labels" / f"{name}.png")


def copy(source: Path, target: Path) -> None:
    """Copy a file's bytes, not its mode."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def fixed_uuid(name: str) -> str:
    """The OME identifier of a file made here, the same each time."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"tilewright/tests/data/{name}"))


def in_grid(tiles: list[np.ndarray]) -> np.ndarray:
    """Tiles in reading order, side by side."""
    rows = [np.hstack(tiles[i : i + MONTAGE_COLUMNS]) for i in range(0, 16, MONTAGE_COLUMNS)]
    return np.vstack(rows)


def make_montage(collection: Path, manifest: dict[str, dict[str, str]]) -> None:
    """Sixteen fields side by side, and their ground truth with running numbers."""
    images, truths, last = [], [], 0
    for name in MONTAGE:
        path = f"nuclei/train/images/{name}.png"
        demand_cc0(manifest, path)
        images.append(np.asarray(Image.open(collection / path)))
        truth = np.asarray(Image.open(collection / manifest[path]["ground_truth"])).astype(np.int64)
        truths.append(np.where(truth > 0, truth + last, 0))
        last = int(truths[-1].max())
    folder = HERE / "demo" / "montage"
    folder.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(
        folder / "sixteen_fields.ome.tif",
        in_grid(images),
        ome=True,
        tile=(256, 256),
        photometric="minisblack",
        metadata={
            **OME,
            "axes": "YX",
            "UUID": fixed_uuid("sixteen_fields.ome.tif"),
            "Name": "montage of 16 BBBC038 fields",
            "Description": "Montage of 16 fields of 520 x 696 px from BBBC038; the seams between "
            "fields are not part of any specimen. Pixel size unknown.",
        },
        **DEFLATE,
    )
    target = HERE / "truth" / "montage" / "sixteen_fields.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(in_grid(truths).astype(np.uint16)).save(target, optimize=True)


def copy_zarr(collection: Path, manifest: dict[str, dict[str, str]]) -> None:
    """Copy the three-channel OME-Zarr image."""
    demand_cc0(manifest, ZARR)
    for source in sorted((collection / ZARR).rglob("*")):
        if source.is_file():
            inside = source.relative_to(collection / ZARR)
            copy(source, HERE / "demo" / "cell_painting" / "bbbc022.ome.zarr" / inside)


def make_crop(collection: Path, manifest: dict[str, dict[str, str]]) -> None:
    """The upper right of the same field, as a three-channel OME-TIFF."""
    demand_cc0(manifest, CROP)
    tifffile.imwrite(
        HERE / "demo" / "cell_painting" / "bbbc022_crop.ome.tif",
        tifffile.imread(collection / CROP)[CROP_BOX],
        ome=True,
        tile=(256, 256),
        photometric="minisblack",
        metadata={
            **OME,
            "axes": "CYX",
            "UUID": fixed_uuid("bbbc022_crop.ome.tif"),
            "Channel": {"Name": ["c1", "c2", "c3"]},
        },
        **DEFLATE,
    )


def main(collection: Path) -> None:
    """Replace the images of all folders; boxes that were drawn in their images stay."""
    manifest = read_manifest(collection)
    for folder in FOLDERS:
        for path in (HERE / folder).rglob("*"):
            if path.is_file() and not {".boxes", ".seeds"} & set(path.suffixes):
                path.unlink()
    copy_fields(collection, manifest)
    copy_histology(collection, manifest)
    copy_unseen(collection, manifest)
    make_montage(collection, manifest)
    copy_zarr(collection, manifest)
    make_crop(collection, manifest)
    files = [p for name in FOLDERS for p in (HERE / name).rglob("*") if p.is_file()]
    print(f"{len(files)} files, {sum(p.stat().st_size for p in files) / 1e6:.2f} MB")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
