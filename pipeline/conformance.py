"""What every method has to keep: tiled equals untiled. For the tests of methods, ours and yours.

The test of a method that another package registers is three lines::

    def test_conforms(tmp_path):
        recipe = {"segment": {"method": "mine", "size_px": 9}}
        check_conformance(recipe, [image], sides=[16, 37], orders=[0, 1], folder=tmp_path)

`image` is any array with objects that are larger than 16 px. The real engine runs it as one tile,
then cut into tiles of each side, with its orders performed and answered in other orders, some
of them twice. Labels, probabilities, graphs, tables and digests must be the same bits;
`ConformanceError` names the first difference. Images on which methods tend to fail (constant, one
pixel, all NaN, ...) come after the given ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConformanceError, ImageError
from pipeline.labels_recipe import AnyRecipe, parse_any_recipe
from pipeline.recipe import Recipe
from pipeline.trial import Cut, Pixels, Result, run_labels

#: Tiles an order: one, and so many that orders do not end with the rows of tiles.
BATCHES = (1, 3)
#: By how much the sum of the probabilities of a pixel may miss 1: they are rounded to float32.
SUM_TOLERANCE = 1e-6
#: Side of the tiles of degenerate images, in px.
SMALL_SIDE = 8


def check_conformance(
    recipe_content: Mapping[str, object],
    images: Iterable[Pixels],
    sides: Iterable[int | tuple[int, ...]],
    orders: Iterable[int],
    folder: Path,
) -> None:
    """Run a recipe over images, untiled and tiled in many ways, and compare.

    Parameters
    ----------
    recipe_content : dict
        A recipe, as YAML gives it.
    images : iterable of ndarray
        Of the last of the axes (T, C, Z, Y, X): a plane has shape (Y, X).
    sides : iterable of int or tuple of int
        Sides of the tiles in px; they may be smaller than a recipe allows.
    orders : iterable of int
        Seeds, see `Cut.order`.
    folder : Path
        For temporary files.

    Raises
    ------
    ConformanceError
        At the first difference, or if anything but an ImageError is raised.
    """
    recipe = parse_any_recipe(dict(recipe_content), "recipe")
    cuts = [Cut(s, o, b) for s, o, b in itertools.product(list(sides), list(orders), BATCHES)]
    for number, image in enumerate(images):
        check_labels(recipe, image, cuts, folder, f"image {number}")
    for name, image in degenerate_images(recipe.ndim).items():
        check_labels(recipe, image, [Cut(SMALL_SIDE, 1, BATCHES[1])], folder, f"degenerate {name}")


def check_image(
    recipe: Recipe, image: Pixels, cuts: Iterable[Cut], folder: Path, name: str = "image"
) -> Result | ImageError:
    """Compare the runs of one image with its untiled run.

    Returns
    -------
    Result or ImageError
        Of the untiled run. If it was refused, so were all others.

    Raises
    ------
    ConformanceError
    """
    found = check_labels(recipe, image, cuts, folder, name)
    return found if isinstance(found, ImageError) else found[recipe.label]


def check_labels(
    recipe: AnyRecipe, image: Pixels, cuts: Iterable[Cut], folder: Path, name: str = "image"
) -> dict[str, Result] | ImageError:
    """The same of all labels that a recipe makes.

    Returns
    -------
    dict of str to Result, or ImageError
        Of the untiled run, by label.
    """
    where = f"{name} ({image.dtype} {image.shape})"
    whole = _outcome(recipe, image, folder, None, where)
    if not isinstance(whole, ImageError):
        for part in recipe.parts:
            _check_label(part, whole, where if len(whole) == 1 else f"{where}, {part.label}")
    for cut in cuts:
        found = _outcome(recipe, image, folder, cut, f"{where}, {cut}")
        difference = _difference(whole, found)
        if difference:
            raise ConformanceError(f"{where}, {cut}: {difference}")
    return whole


def _check_label(part: Recipe, results: Mapping[str, Result], where: str) -> None:
    """Check what one label must be by itself, and beside the label that it was made from."""
    result = results[part.label]
    if part.segment.classes():
        check_classes(result, len(part.segment.classes()), where)
        if part.segment.has_probabilities():
            check_probabilities(result, len(part.segment.classes()), where)
    elif part.parent_label is None:
        check_numbering(result, where)
    else:
        check_parents(result, results[part.parent_label], part.parent_label, where)


def check_parents(result: Result, parent: Result, name: str, where: str) -> None:
    """Check that objects have numbers of those that they were made from, and that the table fits.

    Raises
    ------
    ConformanceError
    """
    found, first, area = np.unique(result.labels, return_index=True, return_counts=True)
    objects = found > 0
    found, first, area = found[objects], first[objects], area[objects]
    order = np.argsort(first)
    alone = np.setdiff1d(found, parent.labels)
    if alone.size:
        raise ConformanceError(f"{where}: label {alone[0]} is no label of {name}")
    for column in ("label", f"{name}_label"):
        if not np.array_equal(result.table[column].to_numpy(), found[order]):
            raise ConformanceError(f"{where}: {column} is not the labels by their first pixels")
    if not np.array_equal(result.table["area_px"].to_numpy(), area[order]):
        raise ConformanceError(f"{where}: the table's areas are not those of the labels")


def check_numbering(result: Result, where: str) -> None:
    """Check that labels are 1..n by the raster rank of first pixels, and that the table fits.

    Raises
    ------
    ConformanceError
    """
    found, first, area = np.unique(result.labels, return_index=True, return_counts=True)
    objects = found > 0
    if not np.array_equal(found[objects], np.arange(1, objects.sum() + 1)):
        raise ConformanceError(f"{where}: labels are not 1 to {objects.sum()}, without gaps")
    if np.any(np.diff(first[objects]) < 0):
        wrong = int(found[objects][1:][np.diff(first[objects]) < 0][0])
        raise ConformanceError(f"{where}: label {wrong} begins before label {wrong - 1}")
    if not np.array_equal(result.table["label"].to_numpy(), found[objects]):
        raise ConformanceError(f"{where}: the table's rows are not the labels in order")
    if not np.array_equal(result.table["area_px"].to_numpy(), area[objects]):
        raise ConformanceError(f"{where}: the table's areas are not those of the labels")


def check_classes(result: Result, count: int, where: str) -> None:
    """Check that classes are 0 to `count`, and that the table has a row a frame and class.

    Raises
    ------
    ConformanceError
    """
    if result.labels.max(initial=0) > count:
        raise ConformanceError(f"{where}: class {result.labels.max()} of {count}")
    expected = []
    frames = result.labels.reshape(-1, *result.labels.shape[-2:])
    if "z" not in result.table.column_names:
        frames = result.labels
    for frame in frames:
        found, area = np.unique(frame, return_counts=True)
        expected += [(int(c), int(n)) for c, n in zip(found, area, strict=True) if c > 0]
    rows = zip(result.table["label"].to_pylist(), result.table["area_px"].to_pylist(), strict=True)
    if list(rows) != expected:
        raise ConformanceError(f"{where}: the table's classes and areas are not those of the map")


def check_probabilities(result: Result, count: int, where: str) -> None:
    """Check that probabilities are one a class and sum to 1, and that the class is a likeliest one.

    Raises
    ------
    ConformanceError
    """
    soft, labels = result.probabilities, result.labels
    if soft is None or soft.shape != (len(labels), count, *labels.shape[1:]):
        raise ConformanceError(f"{where}: the probabilities of {count} classes are not published")
    if not (soft >= 0).all():
        raise ConformanceError(f"{where}: a probability is negative or not a number")
    apart = np.abs(soft.sum(axis=1, dtype=np.float64) - (labels > 0))
    if apart.max(initial=0) > SUM_TOLERANCE:
        raise ConformanceError(
            f"{where}: probabilities miss the sum of 1, or of 0 where there is no class, by "
            f"{apart.max()}"
        )
    own = np.take_along_axis(soft, np.maximum(labels, 1).astype(np.int64)[:, None] - 1, axis=1)
    if (own < soft).any():
        raise ConformanceError(f"{where}: the class of a pixel is not a likeliest one")


def degenerate_images(ndim: int) -> dict[str, Pixels]:
    """Images on which methods tend to fail, planes or volumes, by what is special about them."""
    shape = (19, 21) if ndim == 2 else (5, 11, 12)
    one = (1,) * ndim
    ramp = np.arange(40) * 6 % 251
    lonely = np.full(shape, np.nan, np.float32)
    lonely[tuple(n // 2 for n in shape)] = 3
    endless = np.full(shape, np.inf, np.float32)
    endless[: shape[0] // 2] = -np.inf
    return {
        "constant": np.full(shape, 7, np.uint8),
        "constant float": np.full(shape, 0.1, np.float32),
        "empty": np.zeros(shape, np.uint16),
        "largest value": np.full(shape, 65535, np.uint16),
        "largest and smallest value": np.where(np.indices(shape)[-1] < 9, -32768, 32767).astype(
            np.int16
        ),
        "one pixel": np.full(one, 9, np.uint8),
        "one pixel of zero": np.zeros(one, np.float32),
        "one row": ramp.reshape((*one[1:], 40)).astype(np.uint8),
        "one column": ramp.reshape((*one[2:], 40, 1)).astype(np.uint16),
        "all NaN": np.full(shape, np.nan, np.float32),
        "all but one NaN": lonely,
        "infinite": endless,
    }


def _outcome(
    recipe: AnyRecipe, image: Pixels, folder: Path, cut: Cut | None, where: str
) -> dict[str, Result] | ImageError:
    """The result, or the refusal that the method is allowed to answer with."""
    try:
        side = max(1, *image.shape[-recipe.ndim :])
        return run_labels(recipe, image, folder, cut or Cut(side))
    except ImageError as error:
        return error
    except ConformanceError as error:
        raise ConformanceError(f"{where}: {error}") from error
    except Exception as error:
        raise ConformanceError(
            f"{where}: raised {type(error).__name__}: {error}. An image that a method cannot "
            "take is refused with an ImageError."
        ) from error


def _difference(
    whole: dict[str, Result] | ImageError, found: dict[str, Result] | ImageError
) -> str:
    """What differs first; empty where nothing does."""
    if isinstance(whole, ImageError) or isinstance(found, ImageError):
        if isinstance(whole, ImageError) and isinstance(found, ImageError):
            return ""
        return f"one is refused, one is not: untiled {whole}, tiled {found}"
    for label, result in whole.items():
        unlike = _first_unlike(result, found[label])
        if unlike:
            return unlike if len(whole) == 1 else f"{label}: {unlike}"
    return ""


def _first_unlike(whole: Result, found: Result) -> str:
    """What differs first of one label; empty where nothing does."""
    if unlike := _first_unlike_label(whole.labels, found.labels):
        return unlike
    if whole.fragments is not None and found.fragments is not None:
        unlike = _first_unlike_label(whole.fragments, found.fragments)
        if unlike:
            return f"fragments: {unlike}"
    soft = _first_unlike_probability(whole, found)
    if soft:
        return soft
    if whole.graph != found.graph:
        return "the graphs of the regions differ"
    if not whole.table.schema.equals(found.table.schema):
        return f"the tables' columns differ: {found.table.schema} for {whole.table.schema}"
    for name in whole.table.column_names:
        a, b = whole.table[name].to_numpy(), found.table[name].to_numpy()
        differs = ~((a == b) | ((a != a) & (b != b)))  # NaN equals NaN here
        if differs.any():
            row = int(np.flatnonzero(differs)[0])
            return f"table row {row}, column {name}: {b[row]!r} instead of {a[row]!r}"
    if whole.digest != found.digest:
        return f"equal labels have the digests {whole.digest} and {found.digest}"
    if whole.quality_digest != found.quality_digest:
        return "the numbers of the image's quality differ"
    if whole.table_digest != found.table_digest:
        return f"equal tables have the digests {whole.table_digest} and {found.table_digest}"
    return ""


def _first_unlike_label(whole: NDArray[Any], found: NDArray[Any]) -> str:
    """Where labels differ first; empty where they do not."""
    apart = whole != found
    if not apart.any():
        return ""
    place = tuple(int(i) for i in np.argwhere(apart)[0])
    return (
        f"{int(apart.sum())} px of {apart.size} differ, first (t, z, y, x) = {place}: "
        f"label {found[place]} instead of {whole[place]}"
    )


def _first_unlike_probability(whole: Result, found: Result) -> str:
    """Where the bits of the probabilities differ first; empty where they do not."""
    if whole.probabilities is None or found.probabilities is None:
        return "" if whole.probabilities is found.probabilities else "only one has probabilities"
    apart = whole.probabilities.view(np.uint32) != found.probabilities.view(np.uint32)
    if not apart.any():
        return ""
    place = tuple(int(i) for i in np.argwhere(apart)[0])
    return (
        f"{int(apart.sum())} probabilities of {apart.size} differ, first (t, class, z, y, x) = "
        f"{place}: {found.probabilities[place]!r} instead of {whole.probabilities[place]!r}"
    )
