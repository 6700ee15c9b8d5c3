"""Which labels belong to which truth: by their names."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pipeline.errors import ImageError, ScoreError
from pipeline.scores.find import Found, LabelImage
from pipeline.sources import SourceSpec


@dataclass(frozen=True, slots=True)
class Pair:
    """Labels and their truth; small, so that it may cross processes."""

    labels: LabelImage
    truth: LabelImage

    @property
    def name(self) -> str:
        return self.labels.name


@dataclass(frozen=True, slots=True)
class Pairing:
    """What belongs together.

    Parameters
    ----------
    pairs : list of Pair
        By the labels' names.
    without_truth : list of str
        Labels that nobody annotated: not scored.
    failures : list of ImageError
        Truth without labels or with broken ones, broken truth, and names that are not unique.
    """

    pairs: list[Pair]
    without_truth: list[str]
    failures: list[ImageError]


def pair_up(labels: Found, truth: Found) -> Pairing:
    """Match by the path without suffix; else by the last part of it, where that is unique.

    A single image that was named itself belongs to the only one of the other side.
    """
    failures = list(truth.failures.values())
    if len(labels.images) == len(truth.images) == 1 and (labels.is_image or truth.is_image):
        return Pairing([Pair(labels.images[0], truth.images[0])], [], failures)
    failures += [*_doubles(labels.images), *_doubles(truth.images)]
    pairs = _by_key(_unique(labels.images, _whole), _unique(truth.images, _whole), _whole)
    pairs += _by_key(
        _left(_unique(labels.images, _stem), [pair.labels for pair in pairs]),
        _left(_unique(truth.images, _stem), [pair.truth for pair in pairs]),
        _stem,
    )
    broken = {_plain(name): error for name, error in labels.failures.items()}
    stems = {name.rpartition("/")[2]: error for name, error in broken.items()}
    for one in _left(_unique(truth.images, _whole), [pair.truth for pair in pairs]):
        known = broken.get(_whole(one)) or stems.get(_stem(one))
        failures.append(known or _without_labels(one))
    failed = {_plain(name).rpartition("/")[2] for name in truth.failures}
    alone = _left(_unique(labels.images, _whole), [pair.labels for pair in pairs])
    return Pairing(
        sorted(pairs, key=lambda pair: pair.name),
        sorted(one.name for one in alone if _stem(one) not in failed),
        failures,
    )


def _by_key(
    labels: Sequence[LabelImage], truth: Sequence[LabelImage], key: Callable[[LabelImage], str]
) -> list[Pair]:
    known = {key(one): one for one in truth}
    return [Pair(one, known[key(one)]) for one in labels if key(one) in known]


def _left(images: Sequence[LabelImage], taken: Sequence[LabelImage]) -> list[LabelImage]:
    names = {one.name for one in taken}
    return [one for one in images if one.name not in names]


def picture_of(pair: Pair, pictures: Iterable[SourceSpec]) -> SourceSpec | None:
    """The image of a pair, among those that were given, by name."""
    wanted = {_plain(pair.labels.name), _plain(pair.truth.name)}
    given = list(pictures)
    found = [one for one in given if _plain(one.name) in wanted]
    stems = {name.rpartition("/")[2] for name in wanted}
    found = found or [one for one in given if _plain(one.name).rpartition("/")[2] in stems]
    return found[0] if len(found) == 1 else None


def _unique(images: Sequence[LabelImage], key: Callable[[LabelImage], str]) -> list[LabelImage]:
    count = Counter(map(key, images))
    return [one for one in images if count[key(one)] == 1]


def _doubles(images: Sequence[LabelImage]) -> list[ImageError]:
    count = Counter(map(_whole, images))
    return [
        ScoreError(
            one.spec.path,
            f'{count[_whole(one)]} images of its folder are called "{one.name}"',
            "Keep the right one, or choose with --only.",
        )
        for one in images
        if count[_whole(one)] > 1
    ]


def _without_labels(truth: LabelImage) -> ImageError:
    return ScoreError(
        truth.spec.path,
        f'there are no labels of "{truth.name}"',
        "Segment this image too, give its labels the same name, or leave it out with --only.",
    )


def _whole(image: LabelImage) -> str:
    return _plain(image.name)


def _stem(image: LabelImage) -> str:
    return _whole(image).rpartition("/")[2]


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name)
