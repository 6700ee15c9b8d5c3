"""Superpixels, merged in several ways and scored against annotations, beside scikit-image.

    python tests/benchmarks/scores.py [DATA]

DATA is a folder with em_3d_gala/train_*.tif (a volume of neurons) and MANIFEST.tsv (tissue with
annotated nuclei); what it lacks is left out, and named. A value of merging is the one with the
smallest variation of information on images (or on the half of the volume) that are not scored,
looked for once for ours and once for scikit-image. All runs go through the engine, untiled and in
shuffled small tiles, and must agree in every bit.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from skimage import io

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from region_scores import TOLERANCE_PX, Scores, mean_scores, score  # noqa: E402
from region_ways import (  # noqa: E402
    TISSUE_SUPERPIXELS,
    TISSUE_WAYS,
    VOLUME_SUPERPIXELS,
    VOLUME_WAYS,
    Scene,
    Superpixels,
    Way,
)

from pipeline.graph.tables import StoredGraph  # noqa: E402
from pipeline.recipe import Recipe, parse_recipe  # noqa: E402
from pipeline.trial import Cut, Result, run_tiled, run_untiled  # noqa: E402

BUNDLED = HERE.parent / "data"
#: Images of tissue whose values are tried: every n-th of them.
EVERY = 12
TILES = {2: Cut((70, 90), order=1), 3: Cut((23, 41, 37), order=1)}
#: Values for bundled images, where there is nothing else to find them on: what `make scores` found
#: on the training images of BBBC038, (superpixels, way) -> (ours, scikit-image's).
FOUND: dict[tuple[str, str], tuple[float, float]] = {
    ("SLIC", "threshold"): (8, 8),
    ("SLIC", "hierarchical, mean_color"): (18, 11),
    ("SLIC", "hierarchical, ward"): (64000, 64000),
    ("SLIC", "hierarchical, boundary"): (20, 17),
    ("SLIC", "normalized_cut"): (0.3, 0.3),
    ("basins of the gradient", "threshold"): (8, 11),
    ("basins of the gradient", "hierarchical, mean_color"): (14, 14),
    ("basins of the gradient", "hierarchical, ward"): (32000, 32000),
    ("basins of the gradient", "hierarchical, boundary"): (20, 20),
    ("basins of the gradient", "normalized_cut"): (0.1, 0.1),
}


@dataclass(frozen=True)
class Row:
    """One way of merging, by one implementation."""

    value: float
    regions: float
    scores: Scores
    seconds: float


# --- Ours -----------------------------------------------------------------------------------------


def recipe_of(superpixels: Superpixels, way: Way, value: float) -> Recipe:
    content = {"output": {"pyramid": False}, **superpixels.recipe}
    if way.merge:
        content["merge"] = {**way.merge, "value": value}
        if "dims" in content["source"]:  # of a volume, the last channel is the probability
            content["merge"]["boundary"] = len(content["source"]["channels"]) - 1
    return parse_recipe(content, "scores")


def run_ours(superpixels: Superpixels, way: Way, value: float, scene: Scene, cut: bool) -> Result:
    recipe = recipe_of(superpixels, way, value)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if scene.supplied is not None:
            tifffile.imwrite(folder / "supplied.tif", scene.supplied, metadata={"axes": "ZYX"})
        image = np.squeeze(scene.image[:, None]) if recipe.ndim == 3 else scene.image
        if cut:
            return run_tiled(recipe, image, folder, TILES[recipe.ndim])
        return run_untiled(recipe, image, folder)


def try_ours(
    superpixels: Superpixels, way: Way, scene: Scene, values: Sequence[float]
) -> list[Scores]:
    """Scores of all values; of a hierarchy from one run, by its history."""
    if way.merge.get("by") != "hierarchical":
        runs = [run_ours(superpixels, way, value, scene, False) for value in values]
        return [score(run.labels[0], scene.truth) for run in runs]
    whole = run_ours(superpixels, way, max(values), scene, False)
    assert whole.graph is not None
    assert whole.fragments is not None
    regions = [np.append(0, whole.graph.regions_at(value)) for value in values]
    return [score(found[whole.fragments[0]], scene.truth) for found in regions]


def demand_equal(tiled: Result, untiled: Result, what: str) -> None:
    """End the run if the promise is broken."""
    same = tiled.digest == untiled.digest and tiled.table_digest == untiled.table_digest
    same &= np.array_equal(tiled.labels, untiled.labels)
    if isinstance(tiled.graph, StoredGraph) and isinstance(untiled.graph, StoredGraph):
        same &= tiled.graph.nodes.equals(untiled.graph.nodes)
        same &= tiled.graph.edges.equals(untiled.graph.edges)
        same &= tiled.graph.merges.equals(untiled.graph.merges)
    if not same:
        raise SystemExit(f"{what}: tiles give another result than the whole image")


def score_ours(superpixels: Superpixels, way: Way, scenes: Sequence[Scene], value: float) -> Row:
    scores, seconds, regions = [], [], []
    for scene in scenes:
        started = time.perf_counter()
        whole = run_ours(superpixels, way, value, scene, False)
        seconds.append(time.perf_counter() - started)
        tiled = run_ours(superpixels, way, value, scene, True)
        demand_equal(tiled, whole, f"{scene.name}, {superpixels.name}, {way.name}")
        scores.append(score(whole.labels[0], scene.truth))
        regions.append(len(whole.table))
    return Row(value, float(np.mean(regions)), mean_scores(scores), float(np.mean(seconds)))


# --- scikit-image's -------------------------------------------------------------------------------


def score_library(superpixels: Superpixels, way: Way, scenes: Sequence[Scene], value: float) -> Row:
    assert way.library is not None
    scores, seconds, regions = [], [], []
    for scene in scenes:
        started = time.perf_counter()
        labels = way.library(superpixels.library(scene), scene, value)
        seconds.append(time.perf_counter() - started)
        scores.append(score(labels, scene.truth))
        regions.append(len(np.unique(labels)))
    return Row(value, float(np.mean(regions)), mean_scores(scores), float(np.mean(seconds)))


def try_library(way: Way, labels: np.ndarray, scene: Scene) -> list[Scores]:
    assert way.library is not None
    return [score(way.library(labels, scene, value), scene.truth) for value in way.values]


# --- Tables ---------------------------------------------------------------------------------------


def best(tried: Sequence[list[Scores]], values: Sequence[float]) -> float:
    """The value whose mean variation of information is smallest; `tried`: one list an image."""
    mean = np.mean([[one.variation for one in scores] for scores in tried], axis=0)
    return values[int(mean.argmin())]


def compare(
    superpixels: Superpixels, ways: Sequence[Way], train: Sequence[Scene], scored: Sequence[Scene]
) -> None:
    """Print the table of one kind of superpixels."""
    start_warm(superpixels, ways, scored[0])
    theirs = [superpixels.library(scene) for scene in train]
    names = f"{'value':>7} {'regions':>7} {'split':>6} {'merge':>6} {'rand':>6} {'F1':>6} {'s':>6}"
    print(f"\n{superpixels.name}\n{'':26}{'ours':^50} | {'scikit-image':^50}")
    print(f"{'':26}{names} | {names}")
    for way in ways:
        mine, other = FOUND.get((superpixels.name, way.name), (way.values[0],) * 2)
        if train and way.merge:
            tried = [try_ours(superpixels, way, scene, way.values) for scene in train]
            mine = best(tried, way.values)
        row = score_ours(superpixels, way, scored, mine)
        text = f"{way.name:26}{shown(row, way)} | "
        if way.library is None or (way.is_slow and not superpixels.are_few):
            print(f"{text}{'not there' if way.library is None else 'not run'}", flush=True)
            continue
        if way.is_slow:
            other = mine
        elif train and way.merge:
            pairs = zip(theirs, train, strict=True)
            other = best([try_library(way, *pair) for pair in pairs], way.values)
        print(text + shown(score_library(superpixels, way, scored, other), way), flush=True)


def shown(row: Row, way: Way) -> str:
    s = row.scores
    value = f"{row.value:7g}" if way.merge else f"{'':7}"
    return (
        f"{value} {row.regions:7.0f} {s.split:6.3f} {s.merge:6.3f} {s.rand_error:6.3f} "
        f"{s.boundary_f1:6.3f} {row.seconds:6.2f}"
    )


def start_warm(superpixels: Superpixels, ways: Sequence[Way], scene: Scene) -> None:
    """Compile kernels, so that seconds do not count it."""
    for way in ways:
        run_ours(superpixels, way, way.values[0], scene, False)


# --- Data -----------------------------------------------------------------------------------------


def tissue_scene(image: Path, truth: Path) -> Scene:
    pixels = np.moveaxis(io.imread(image)[..., :3], -1, 0)[:, None]
    return Scene(image.stem, pixels, io.imread(truth)[None].astype(np.int64))


def tissue_scenes(data: Path) -> tuple[list[Scene], list[Scene]]:
    """Images to find values on, and images to score: those of nuclei/train and nuclei/val."""
    with (data / "MANIFEST.tsv").open(newline="") as lines:
        rows = [r for r in csv.DictReader(lines, delimiter="\t") if "histology" in r["modality"]]
    pairs = sorted((r["path"], r["ground_truth"]) for r in rows if r["path"].startswith("nuclei/"))
    train = [pair for pair in pairs if pair[0].startswith("nuclei/train/")][::EVERY]
    scored = [pair for pair in pairs if pair[0].startswith("nuclei/val/")]
    return tuple([tissue_scene(data / a, data / b) for a, b in part] for part in (train, scored))


def volume_scenes(folder: Path) -> tuple[list[Scene], list[Scene]]:
    """The left half of the volume to find values on, the right one to score."""
    names = ("image", "boundary_prob", "gt", "superpixels")
    image, probability, truth, given = (tifffile.imread(folder / f"train_{n}.tif") for n in names)
    middle = image.shape[2] // 2
    halves = []
    for name, half in (("left", np.s_[..., :middle]), ("right", np.s_[..., middle:])):
        both = np.stack([image, probability])[half]
        halves.append([Scene(name, both, truth[half].astype(np.int64), given[half])])
    return halves[0], halves[1]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", type=Path)
    data: Path | None = parser.parse_args(arguments).data
    print(
        "split, merge: variation of information, bits; rand: adapted Rand error; F1: of borders, "
        f"{TOLERANCE_PX} px.\nPixels without an annotated object are not judged. s: of the whole "
        "image, ours with tables and files.\nOurs was run again in shuffled tiles: all bits equal."
    )
    missing = []
    bundled = BUNDLED / "histology" / "4590d7d47f52.png"
    if data is None or not (data / "MANIFEST.tsv").exists():
        missing.append("other tissue (nuclei/train, nuclei/val and MANIFEST.tsv)")
        scenes = [tissue_scene(bundled, BUNDLED / "truth" / "histology" / bundled.name)]
        title = "bundled H&E image; values were found on other images of its collection"
        tables(title, [], scenes, TISSUE_SUPERPIXELS, TISSUE_WAYS)
    else:
        train, scored = tissue_scenes(data)
        title = f"H&E: {len(scored)} images of nuclei/val; values from {len(train)} of nuclei/train"
        tables(title, train, scored, TISSUE_SUPERPIXELS, TISSUE_WAYS)
    if data is None or not (data / "em_3d_gala").exists():
        missing.append("the volume of neurons (em_3d_gala)")
    else:
        train, scored = volume_scenes(data / "em_3d_gala")
        title = "EM: the right half of the volume; values from its left half"
        tables(title, train, scored, VOLUME_SUPERPIXELS, VOLUME_WAYS)
    if missing:
        print(f"\nLeft out, for DATA was not given or lacks it: {'; '.join(missing)}.")


def tables(
    title: str,
    train: Sequence[Scene],
    scored: Sequence[Scene],
    kinds: Sequence[Superpixels],
    ways: Sequence[Way],
) -> None:
    print(f"\n=== {title}")
    for superpixels in kinds:
        compare(superpixels, ways, train, scored)


if __name__ == "__main__":
    main()
