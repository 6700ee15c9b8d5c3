"""Which workers a batch may go to: those with a GPU, or the others.

Workers say what they have by Dask's resources. One that has ``GPU`` takes as many orders for a GPU
at once; the others have ``CPU`` beside such workers, so that no other work lands on a GPU worker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from distributed import Client

from pipeline.nets.device import gpu_allowed

GPU = {"GPU": 1.0}
CPU = {"CPU": 1.0}

B = TypeVar("B")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Place:
    """Where batches go.

    Parameters
    ----------
    resources : mapping of str to float, or None
        What a batch occupies on its worker; None goes anywhere.
    slots : int
        Batches that such workers can run at the same time.
    """

    resources: Mapping[str, float] | None
    slots: int


@dataclass(frozen=True)
class OnGpu(Generic[B, R]):
    """A function that may use the GPU of its worker."""

    function: Callable[[B], R]

    def __call__(self, batch: B) -> R:
        with gpu_allowed():
            return self.function(batch)


def wants_gpu(batch: object) -> bool:
    """Whether a batch should go to a GPU; one that does not say should not."""
    return bool(getattr(batch, "wants_gpu", False))


def find_place(client: Client, on_gpu: bool) -> Place:
    """Look where batches can go at the moment.

    Parameters
    ----------
    client : Client
    on_gpu : bool
        Whether they are for GPU workers, and for no others.
    """
    workers = _workers(client)
    if on_gpu:
        return Place(GPU, _slots(workers, "GPU"))
    cpu_slots = _slots(workers, "CPU")
    if cpu_slots and _slots(workers, "GPU"):
        return Place(CPU, cpu_slots)
    return Place(None, sum(int(worker["nthreads"]) for worker in workers))


def has_gpu_workers(client: Client) -> bool:
    """Whether any worker has a GPU."""
    return _slots(_workers(client), "GPU") > 0


def _workers(client: Client) -> list[dict[str, Any]]:
    return list(client.scheduler_info(n_workers=-1)["workers"].values())


def _slots(workers: list[dict[str, Any]], name: str) -> int:
    return sum(min(int(w["nthreads"]), int(w["resources"].get(name, 0))) for w in workers)
