"""Whether a disk has room for what a run writes."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import PlanError
from pipeline.plan import ImagePlan, in_gib
from pipeline.run_folder import RunFolder


def check_disk(plans: Sequence[ImagePlan], folder: RunFolder) -> None:
    """Refuse a run that could fill the disk.

    Compression makes labels at least ten times smaller in practice; the image and probabilities
    are counted in full, the latter in scratch, too.
    """
    place = folder.root if isinstance(folder.root, Path) else folder.local
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    need = 0
    if isinstance(folder.work, Path):
        need += max(
            ((p.scratch_bytes + p.label_bytes) // 4 + p.probability_bytes for p in plans), default=0
        )
    if isinstance(folder.root, Path):  # stores have no end
        need += sum(p.copy_bytes + p.probability_bytes + p.label_bytes // 10 for p in plans)
    if need > free:
        raise PlanError(
            f"{folder.root}: the run may write {in_gib(need)}, {in_gib(free)} are free. Free some "
            "space, choose another disk, or use `output: {image: none}` to leave the images out."
        )
