"""Make weak labels of a collection with masks, to see what each kind teaches.

    python docs/make_weak_labels.py COLLECTION OUT [--share 0.25]

COLLECTION holds `images` and `labels`, as `docs/make_training_set.py` leaves them. OUT gets four
folders that `tilewright train` takes: `masks`, `scribbles`, `boxes` and `tags`, of the same images.
One in ten of all images judges, by its mask; `--share` of the others are learned from.

Scribbles are a stroke along the middle of each object and some strokes of background, as people
draw them; boxes are tight; tags tell of squares of 64 px whether they show an object.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage import io
from skimage.morphology import skeletonize

from pipeline.training.object_boxes import object_boxes
from pipeline.training.split import place_of

JUDGING = 0.1
TAGGED_PX = 64
#: Pixels of an object in a square that make people say that it is there.
SEEN_PX = 20
COLUMNS = ("image", "classes", "y_start", "x_start", "y_stop", "x_stop")
#: Strokes of background, and their length, for an image of 256 x 256 px.
STROKES, STROKE_PX = 12, 40


def scribbles(labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """1 on strokes of background, 2 on strokes of objects, 0 elsewhere."""
    found = np.zeros(labels.shape, np.uint8)
    away = ndimage.distance_transform_edt(labels == 0)
    ground = np.argwhere(away > 2)
    for _ in range(round(STROKES * labels.size / 256**2)):
        if not len(ground):
            break
        at = ground[random.integers(len(ground))].astype(float)
        angle = random.uniform(0, 2 * np.pi)
        for _ in range(STROKE_PX):
            at += np.sin(angle), np.cos(angle)
            angle += random.normal(0, 0.15)
            y, x = np.rint(at).astype(int)
            if not (0 <= y < labels.shape[0] and 0 <= x < labels.shape[1]) or away[y, x] <= 2:
                break
            found[y, x] = 1
    for number, box in object_boxes(labels):
        own = np.pad(labels[box] == number, 1)
        core = ndimage.binary_erosion(own, iterations=2)
        middle = skeletonize(core if core.any() else own)[1:-1, 1:-1]
        found[box][middle] = 2
    return found


def write_boxes(path: Path, labels: np.ndarray) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("y_start", "x_start", "y_stop", "x_stop"))
        for _, (y, x) in object_boxes(labels):
            writer.writerow((y.start, x.start, y.stop, x.stop))


def squares(labels: np.ndarray) -> list[tuple[int, int, bool]]:
    """Corners (y, x) of squares, and whether each shows an object; those that show too little to
    tell are left out."""
    found = []
    for y in range(0, labels.shape[0] - TAGGED_PX + 1, TAGGED_PX):
        for x in range(0, labels.shape[1] - TAGGED_PX + 1, TAGGED_PX):
            seen = np.count_nonzero(labels[y : y + TAGGED_PX, x : x + TAGGED_PX])
            if seen == 0 or seen >= SEEN_PX:
                found.append((y, x, seen > 0))
    return found


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("collection", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--share", type=float, default=0.25)
    given = parser.parse_args()
    tags: list[tuple[str | int, ...]] = []
    counts = {"judging": 0, "learned from": 0}
    for path in sorted((given.collection / "images").glob("*.png")):
        name, place = path.stem, place_of(path.stem, 0)
        image = io.imread(path)
        labels = io.imread(given.collection / "labels" / path.name).astype(np.int32)
        judging = place < JUDGING
        if not judging and (place - JUDGING) / (1 - JUDGING) >= given.share:
            continue
        counts["judging" if judging else "learned from"] += 1
        masks = labels.astype(np.uint16)
        kinds = ("masks", "scribbles", "boxes", "tags") if judging else ("masks",)
        for kind in kinds:
            save(given.out / kind / "images" / path.name, image)
            save(given.out / kind / "labels" / path.name, masks)
        if judging:
            continue
        random = np.random.default_rng(int(place * 2**32))
        save(given.out / "scribbles" / "images" / path.name, image)
        save(given.out / "scribbles" / "scribbles" / path.name, scribbles(labels, random))
        save(given.out / "boxes" / "images" / path.name, image)
        (given.out / "boxes" / "boxes").mkdir(parents=True, exist_ok=True)
        write_boxes(given.out / "boxes" / "boxes" / f"{name}.csv", labels)
        save(given.out / "tags" / "images" / path.name, image)
        for y, x, seen in squares(labels):
            tags.append((name, "nucleus" if seen else "", y, x, y + TAGGED_PX, x + TAGGED_PX))
    with (given.out / "tags" / "tags.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *tags])
    told = ", ".join(f"{count} {what}" for what, count in counts.items())
    shown = sum(bool(seen) for _, seen, *_ in tags)
    print(f"{told}; {len(tags)} squares, {shown} with an object")


if __name__ == "__main__":
    main()
