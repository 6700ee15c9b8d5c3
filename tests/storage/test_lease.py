"""Holding a folder in a store, and losing it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from flows.image_records import ImageRecords
from flows.request import Request
from pipeline.errors import BusyError
from pipeline.recipe import parse_recipe
from pipeline.storage import StorePath, lease
from tests import in_process


def taken_over(root: StorePath) -> None:
    """Another process signs the lock; wait until this one has seen it."""
    other = json.dumps({"host": "elsewhere", "pid": 1, "token": "x", "time": time.time()}).encode()
    lock = root / ".tilewright" / "lock.json"
    while lock.read_bytes() != other:  # a sign that was on its way may come after it
        lock.write_bytes(other)
        time.sleep(1.0)


def test_who_lost_a_folder_publishes_nothing_more(
    bucket: StorePath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "SIGN_S", 0.1)
    for name in "abc":
        image = np.zeros((20, 30), np.uint8)
        image[5:9, 5:9] = 200
        tifffile.imwrite(tmp_path / f"{name}.tif", image)
    recorded, record = [], ImageRecords.record

    def lost_after_the_first(self: ImageRecords, plan: Any, result: Any) -> None:
        record(self, plan, result)
        recorded.append(plan.job.name)
        taken_over(bucket / "out")

    monkeypatch.setattr(ImageRecords, "record", lost_after_the_first)
    recipe = parse_recipe(
        {"segment": {"method": "threshold", "foreground": {"value": 100}}}, "recipe"
    )
    with pytest.raises(BusyError, match=r"another run took this one for dead.*finished is kept"):
        in_process.segment(Request(recipe, tmp_path, bucket / "out"))
    assert recorded == ["a"]
    found = sorted(entry.name for entry in (bucket / "out" / "images").entries())
    assert found == ["a.ome.zarr"]
    # The lock is the other's.
    assert json.loads((bucket / "out/.tilewright/lock.json").read_bytes())["token"] == "x"


def test_a_held_folder_is_refused(bucket: StorePath) -> None:
    lock = bucket / "out" / "lock.json"
    with lease.leased(lock, bucket / "out", "run") as held:
        held.require()
        with (
            pytest.raises(BusyError, match="another run is writing"),
            lease.leased(lock, bucket / "out", "run"),
        ):
            pass
    assert not lock.is_file()
