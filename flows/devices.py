"""Whether a run computes on GPUs: decided once, for it must not change half way.

Results of GPUs and CPUs differ in the last digits, and one image must not have both.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

from flows.request import Request
from pipeline.errors import ClusterError
from pipeline.manifest import Manifest
from workers.gpu import gpus

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger(__name__)

DEVICE = "device"


def own_gpus(request: Request) -> tuple[str, ...]:
    """GPUs of this machine that an embedded cluster gets; none for a recipe that has no use."""
    wanted = request.scheduler is None and request.recipe.wants_gpu()
    return gpus() if wanted else ()


def choose_device(
    request: Request, manifest: Manifest, client: Client, found: tuple[str, ...]
) -> Literal["cpu", "gpu"]:
    """Choose GPUs if there are any, or what the run was begun with.

    Parameters
    ----------
    request : Request
    manifest : Manifest
        Remembers the choice.
    client : Client
        A scheduler's workers must be there by now.
    found : tuple of str
        GPUs of the embedded cluster.

    Raises
    ------
    ClusterError
        If the run was begun on GPUs and this machine has none.
    """
    if not request.recipe.wants_gpu():
        return "cpu"
    there = bool(found) if request.scheduler is None else _has_gpu_workers(client)
    begun = manifest.get(DEVICE) if manifest.counts() or manifest.work_in_progress() else None
    if begun == "gpu":
        if not there and request.scheduler is None:
            raise ClusterError(
                f"{request.out}: was begun on GPUs, and this machine has none that is known. "
                "Results of CPUs differ in the last digits. Make a GPU available (see "
                "TILEWRIGHT_GPUS in docs/gpu.md), or use --fresh to start over on CPUs."
            )
        return "gpu"
    if begun == "cpu":
        if there:
            log.warning("%s: was begun on CPUs, and goes on without the GPUs", request.out)
        return "cpu"
    manifest.put(DEVICE, "gpu" if there else "cpu")
    return "gpu" if there else "cpu"


def _has_gpu_workers(client: Client) -> bool:
    from workers.place import has_gpu_workers

    return has_gpu_workers(client)
