"""What a training recipe may say of losses: each term has a name, a weight and parameters.

Needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from pipeline.nets.heads import BorderHead, ClassesHead, Head
from pipeline.nets.parts import Part

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.training.losses.scene import Scene

Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]


def tells_classes(head: Head) -> bool:
    """Whether the channels of a head are classes."""
    return isinstance(head, ClassesHead | BorderHead)


class BorderWeights(Part):
    """More weight between objects that lie near each other: `w0` times a bell of `sigma_px`.

    See `pipeline.training.losses.border_weights`.
    """

    w0: Positive = 10.0
    sigma_px: Positive = 5.0

    @property
    def key(self) -> str:
        """Name of the map of these weights."""
        return f"border_weights {self.w0:g} {self.sigma_px:g}"


class Term(Part):
    """One summand of a head's loss; `weight` multiplies it. `from_step`: when it joins."""

    weight: Positive = 1.0
    from_step: Annotated[int, Field(ge=0)] = 0

    #: Whether it looks at the colours of the patch.
    sees_colours: ClassVar[bool] = False

    @property
    def maps(self) -> tuple[BorderWeights, ...]:
        """Maps of whole frames that it needs."""
        return ()

    def check(self, head: Head, ndim: int) -> None:
        """Raise ValueError if it cannot be the loss of a head."""
        if not tells_classes(head):
            raise ValueError(
                f"losses: {self.named} compares classes; for {head.head} use l1, l2 or smooth_l1"
            )
        given = getattr(self, "class_weights", None)
        count = head.channel_count(ndim)
        if given is not None and len(given) != count:
            raise ValueError(
                f"losses: {len(given)} class_weights for the {count} classes of {head.head}"
            )

    @property
    def named(self) -> str:
        """The word that chooses it."""
        return str(getattr(self, "loss", ""))

    def of(self, outputs: Tensor, target: Tensor, known: Tensor, scene: Scene) -> Tensor:
        """The loss, without its weight.

        Parameters
        ----------
        outputs : Tensor of shape (N, K, \\*P)
            Logits of classes, or values.
        target : Tensor
            Classes (N, \\*P), int64; or values (N, K, \\*P), float32.
        known : Tensor of shape (N, \\*P), float32
            1 where the target is known, else 0.
        scene : Scene
            What else is known of the patches.
        """
        raise NotImplementedError


class CrossEntropyTerm(Term):
    """`class_weights`: one a class. `border`: add border weights."""

    loss: Literal["cross_entropy"]
    class_weights: tuple[Weight, ...] | None = None
    border: BorderWeights | None = None

    @property
    def maps(self) -> tuple[BorderWeights, ...]:
        return () if self.border is None else (self.border,)

    def of(self, outputs: Tensor, target: Tensor, known: Tensor, scene: Scene) -> Tensor:
        from pipeline.training.losses.cross_entropy import cross_entropy  # noqa: PLC0415

        border = None if self.border is None else scene.maps[self.border.key]
        return cross_entropy(outputs, target, known, self.class_weights, border)


class DiceTerm(Term):
    """`background`: whether the first class counts. `smooth`: added above and below."""

    loss: Literal["dice"]
    background: bool = False
    smooth: Annotated[float, Field(ge=0)] = 1.0

    def of(self, outputs: Tensor, target: Tensor, known: Tensor, scene: Scene) -> Tensor:
        from pipeline.training.losses.dice import dice  # noqa: PLC0415

        return dice(outputs, target, known, self.background, self.smooth)


class FocalTerm(Term):
    """`gamma`: how much less a pixel counts that is right. `class_weights`: one a class."""

    loss: Literal["focal"]
    gamma: Annotated[float, Field(ge=0, le=10)] = 2.0
    class_weights: tuple[Weight, ...] | None = None

    def of(self, outputs: Tensor, target: Tensor, known: Tensor, scene: Scene) -> Tensor:
        from pipeline.training.losses.focal import focal  # noqa: PLC0415

        return focal(outputs, target, known, self.gamma, self.class_weights)


class RegressionTerm(Term):
    """`where`: "all" pixels, or those of "objects" alone."""

    loss: Literal["l1", "l2", "smooth_l1"]
    where: Literal["all", "objects"] = "all"

    def check(self, head: Head, ndim: int) -> None:
        if tells_classes(head):
            raise ValueError(
                f"losses: {self.loss} compares values; for {head.head} use cross_entropy, dice "
                "or focal"
            )

    def of(self, outputs: Tensor, target: Tensor, known: Tensor, scene: Scene) -> Tensor:
        from pipeline.training.losses.regression import regression  # noqa: PLC0415

        if self.where == "objects":
            known = known * (target != 0).any(1).to(known.dtype)
        return regression(outputs, target, known, self.loss)


class PairwiseTerm(Term):
    """Near pixels of alike colours are of one class. `reach_px`: how near. `colour`: the distance
    of normalised colours over which likeness falls to 1/e. `alike`: pairs below count nothing."""

    sees_colours: ClassVar[bool] = True

    loss: Literal["pairwise"]
    reach_px: Annotated[int, Field(ge=1, le=16)] = 2
    colour: Positive = 0.1
    alike: Annotated[float, Field(ge=0, lt=1)] = 0.3

    def of(self, outputs: Tensor, target: Tensor, known: Tensor, scene: Scene) -> Tensor:
        from pipeline.training.losses.pairwise import pairwise  # noqa: PLC0415

        return pairwise(outputs, scene.colours, self.reach_px, self.colour, self.alike)


class OfActivation(Term):
    """What is learned from tags alone."""

    def check(self, head: Head, ndim: int) -> None:
        super().check(head, ndim)
        if not isinstance(head, ClassesHead) or head.background is None:
            raise ValueError(f"losses: {self.named} needs a head `classes` with a background")


class TagsTerm(OfActivation):
    """Which classes an image shows, from their mean activation. `size_weight`, `size_power`: of
    the summand that keeps activations from being tiny; a weight of 0 leaves it out."""

    loss: Literal["tags"]
    size_weight: Weight = 1.0
    size_power: Weight = 3.0

    def of(self, outputs: Tensor, target: Tensor, known: Tensor, scene: Scene) -> Tensor:
        from pipeline.training.losses.activation import tag_loss  # noqa: PLC0415

        return tag_loss(outputs, scene.tags, scene.background, self.size_weight, self.size_power)


class SeedsTerm(OfActivation):
    """Cross-entropy of where the network itself is sure: seeds of classes that the tags name are
    pixels of more than `share` of their highest activation, after `rounds` of refinement by
    colours."""

    sees_colours: ClassVar[bool] = True

    loss: Literal["seeds"]
    share: Annotated[float, Field(gt=0, lt=1)] = 0.6
    rounds: Annotated[int, Field(ge=0, le=100)] = 10

    def of(self, outputs: Tensor, target: Tensor, known: Tensor, scene: Scene) -> Tensor:
        from pipeline.training.losses.activation import seed_loss  # noqa: PLC0415

        return seed_loss(
            outputs, scene.tags, scene.colours, scene.background, self.share, self.rounds
        )


AnyTerm = Annotated[
    CrossEntropyTerm | DiceTerm | FocalTerm | RegressionTerm | PairwiseTerm | TagsTerm | SeedsTerm,
    Field(discriminator="loss"),
]


def defaults(head: Head) -> tuple[AnyTerm, ...]:
    """What a recipe means that says nothing of a head's loss."""
    if isinstance(head, ClassesHead | BorderHead):
        return (CrossEntropyTerm(loss="cross_entropy"),)
    if head.head == "distance":
        return (RegressionTerm(loss="l1"),)
    return (RegressionTerm(loss="l2", where="objects"),) if head.head == "flow" else ()
