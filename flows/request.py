"""What the user asked for, and the reading of it that the folder remembers."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pipeline import __version__
from pipeline.errors import OutputError, RecipeError
from pipeline.files import digest
from pipeline.labels_recipe import AnyRecipe
from pipeline.manifest import Manifest
from pipeline.run_folder import RunFolder
from pipeline.storage import AnyPath

REQUEST = "request"
TILE = "tile_px"


@dataclass(frozen=True, slots=True)
class Request:
    """One `tilewright run`.

    Parameters
    ----------
    recipe : Recipe or LabelsRecipe
    archive, out : Path or StorePath
    tile_px : int or None
        Side of a core; None chooses from the memory.
    workers : int or None
        Worker processes; None is one a core.
    scheduler : str or None
        Address of a Dask scheduler; None embeds a cluster.
    fresh : bool
        Set aside what the folder holds, and start over.
    only : str or None
        Glob on names: other images are left as they are.
    paths : frozenset of str or None
        Only images that lie there; None: all.
    work : Path, StorePath or None
        Where unfinished work is kept; None: in the output's own hidden folder, or on this machine.
    """

    recipe: AnyRecipe
    archive: AnyPath
    out: AnyPath
    tile_px: int | None = None
    workers: int | None = None
    scheduler: str | None = None
    fresh: bool = False
    only: str | None = None
    paths: frozenset[str] | None = None
    work: AnyPath | None = None

    def __post_init__(self) -> None:
        if self.is_partial and self.recipe.is_dataset_wide():
            asked = f"--only {self.only}" if self.only is not None else "watching an archive"
            raise RecipeError(
                f"{asked}: the recipe looks at the whole dataset (`scope: dataset`, or an "
                "estimated flat_field), so a part of it would get other labels. Take all of it, or "
                "use `scope: image`, or a profile."
            )

    @property
    def is_partial(self) -> bool:
        """Whether some images of the archive may be left as they are."""
        return self.only is not None or self.paths is not None

    @property
    def plan(self) -> str:
        """Identity of the request: recipe, code version and archive."""
        content = [self.recipe.identity(), *self.recipe.revisions, __version__]
        return digest(json.dumps([*content, str(self.archive.absolute())]).encode())


def claim(request: Request, folder: RunFolder, manifest: Manifest) -> None:
    """Make the folder this request's, or refuse.

    Raises
    ------
    OutputError
        If it holds the results of another request.
    """
    before = manifest.get(REQUEST)
    begun = bool(manifest.counts() or manifest.work_in_progress())
    other = before is not None and before != request.plan and begun
    if other and folder.is_emptied():
        folder.forget(manifest)
    elif other:
        raise OutputError(
            f"{folder.root}: holds the results of another recipe, archive or version of "
            "tilewright; they are never mixed. Choose another OUT, or use --fresh to move them "
            f"to {folder.hidden / 'previous'} and start over."
        )
    if before is None:
        folder.keep_foreign_files()
    manifest.put(REQUEST, request.plan)
    folder.write_recipe(request.recipe.model_dump(mode="json"))


def tile_of(request: Request, manifest: Manifest) -> int | None:
    """The side of a core: as asked, as begun, or None to choose."""
    if request.tile_px is not None:
        return request.tile_px
    begun = manifest.get(TILE)
    return int(begun) if begun else None
