"""What a recipe is asked as a whole, be it of one label image or of several."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.recipe import Recipe


class OfParts:
    """A recipe as a row of parts, each of which makes one label image."""

    @property
    def parts(self) -> tuple[Recipe, ...]:
        """The recipes of its label images, in the order in which they are made."""
        raise NotImplementedError

    @property
    def revisions(self) -> tuple[int, ...]:
        """Of the methods, see `Method.revision`."""
        return tuple(part.segment.revision for part in self.parts)

    def companion_patterns(self) -> tuple[str, ...]:
        """Patterns of all files beside the images."""
        return tuple(p for part in self.parts for p in part.segment.companions().values())

    def is_dataset_wide(self) -> bool:
        """Whether the first rounds of a part look at all images together."""
        return any(part.is_dataset_wide() for part in self.parts)

    def wants_gpu(self) -> bool:
        """Whether a method has rounds for a GPU."""
        return any(part.segment.wants_gpu() for part in self.parts)

    def class_names(self) -> list[str]:
        """Names of all classes that its maps have."""
        return [one.name for part in self.parts for one in part.segment.classes()]
