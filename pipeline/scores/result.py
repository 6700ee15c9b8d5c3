"""What came out: sums of every image, scores over all of them, and what could not be scored."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ImageError
from pipeline.report.wording import plural
from pipeline.scores.intervals import Overall, summarize
from pipeline.scores.pairing import Pair, Pairing
from pipeline.scores.settings import Settings

Floats = NDArray[np.float64]

#: A truth with one object, where labels have at least this many, is most likely a mask.
MANY = 5


@dataclass(frozen=True, slots=True)
class Result:
    """The scores of a set of images.

    Parameters
    ----------
    settings : Settings
    pairs : list of Pair
        The images that were scored, by name.
    sums : dict of ndarray of shape (images,), float64
        What scores are ratios of.
    scores : dict of ndarray of shape (images,), float64
        Every measure of every image.
    overall : list of Overall
        Every measure over all images.
    without_truth : list of str
        Labels that nobody annotated.
    failures : list of ImageError
        What should have been scored and could not.
    """

    settings: Settings
    pairs: list[Pair]
    sums: dict[str, Floats]
    scores: dict[str, Floats]
    overall: list[Overall]
    without_truth: list[str]
    failures: list[ImageError]

    @property
    def notes(self) -> list[str]:
        """What one should know before one trusts the numbers."""
        found = []
        if len(self.pairs) == 1:
            found.append("One image: there is nothing to draw intervals from.")
        elif len(self.pairs) < 10:
            found.append(
                f"{len(self.pairs)} images: intervals from fewer than about 10 are too narrow."
            )
        if not self.settings.classes:
            found += self._notes_of_objects()
        return found

    def _notes_of_objects(self) -> list[str]:
        truth, labels = self.sums["truth_objects"], self.sums["label_objects"]
        found = []
        if empty := int(((truth == 0) & (labels == 0)).sum()):
            found.append(
                f"{plural(empty, 'image')} without an object on either side: right, but an AP of 0 "
                "in the mean of images (as in stardist). The pooled scores do not see them."
            )
        if (truth <= 1).all() and (labels >= MANY).any():
            found.append(
                "No truth has more than one object: is it a mask? Then only the scores of the "
                "foreground mean something."
            )
        return found

    def worst(self, count: int) -> list[int]:
        """Positions of the images with the smallest scores, the smallest first."""
        if self.settings.classes:
            score = self.scores["mean_iou"]
            wrong = self.sums["judged_px"] - self.sums["right_px"]
            judged = self.sums["judged_px"] > 0
        else:
            name = self.rank_name.removeprefix("ap_")
            pairs = self.sums[f"pairs_{name}"]
            wrong = self.sums["truth_objects"] + self.sums["label_objects"] - 2 * pairs
            score = self.scores[self.rank_name]
            judged = wrong + pairs > 0
        order = np.lexsort((-wrong, np.nan_to_num(score, nan=2.0)))
        return [int(i) for i in order if judged[i]][:count]

    @property
    def rank_name(self) -> str:
        """The measure that tells which image is worse."""
        if self.settings.classes:
            return "mean_iou"
        names = [name for name in self.scores if name.startswith("ap_") and name != "ap_mean"]
        return "ap_0.50" if "ap_0.50" in names else names[0]


def make_result(
    pairing: Pairing, settings: Settings, scored: Iterable[tuple[Pair, dict[str, float]]]
) -> Result:
    """Put the images together.

    Parameters
    ----------
    pairing : Pairing
        Its failures may grow while `scored` is drawn.
    settings : Settings
    scored : iterable of (Pair, dict of float)
        Images and their sums, in any order.
    """
    found = sorted(scored, key=lambda one: one[0].name)
    pairs = [pair for pair, _ in found]
    names = list(found[0][1]) if found else []
    sums = {name: np.array([one[name] for _, one in found], np.float64) for name in names}
    measures = settings.measures()
    scores = {measure.name: measure.of(sums) for measure in measures} if found else {}
    overall = summarize(sums, measures) if found else []
    return Result(settings, pairs, sums, scores, overall, pairing.without_truth, pairing.failures)
