"""Networks on a cluster: workers, tiles, pretended GPUs and killed workers change no bit."""

from __future__ import annotations

import os
import signal
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs tilewright[nets]")

from flows.request import Request
from pipeline.trial import save_array
from tests import in_process
from tests.nets.models import tiny_model
from tests.nets.whole import picture, recipe_of
from workers.cluster import open_cluster
from workers.submit import run_batches, run_serially


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    save_array(picture((170, 230)), folder)
    return folder


def segment(
    archive: Path, out: Path, client: Any, tile_px: int, use_gpus: bool = False
) -> tuple[list[str], str]:
    """Digests of labels and table."""
    model = tiny_model(arguments={"depth": 1, "norm": "group", "base_channels": 8})
    recipe = recipe_of(model, block_px=32, output="labels")
    request = Request(recipe, archive, out, tile_px=tile_px)
    work = partial(run_batches, client, use_gpus=use_gpus) if client else run_serially
    return in_process.digests(in_process.segment(request, work, small=False))


@pytest.fixture(scope="module")
def serial(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], str]:
    found = segment(archive, tmp_path_factory.mktemp("serial") / "out", None, 256)
    assert " published " in found[0][0]
    return found


@pytest.mark.parametrize(("workers", "gpus", "tile_px"), [(3, None, 100), (1, ["0"], 64)])
def test_workers_and_tiles_change_nothing(
    workers: int, gpus: list[str] | None, tile_px: int, archive: Path, serial: Any, tmp_path: Path
) -> None:
    options = {} if gpus is None else {"gpus": gpus}
    with open_cluster(workers, None, **options) as client:
        client.wait_for_workers(workers + len(gpus or ()), timeout=120)
        assert segment(archive, tmp_path / "out", client, tile_px, gpus is not None) == serial


@pytest.mark.crash
def test_a_killed_worker_changes_nothing(archive: Path, serial: Any, tmp_path: Path) -> None:
    out, killed = tmp_path / "out", []

    def kill_one(client: Any) -> None:
        while len(list(out.rglob("network/*/*"))) < 4:  # blocks in scratch, of 48
            time.sleep(0.005)
        pid = next(iter(client.run(os.getpid).values()))
        os.kill(pid, signal.SIGKILL)
        killed.append(len(list(out.rglob("network/*/*"))))

    with open_cluster(2, None) as client:
        client.wait_for_workers(2, timeout=120)
        thread = threading.Thread(target=kill_one, args=(client,))
        thread.start()
        found = segment(archive, out, client, 64)
        thread.join(60)
    assert found == serial
    assert killed
    assert killed[0] < 48  # it was in the middle
