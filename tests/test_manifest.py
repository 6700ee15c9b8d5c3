"""The records of a run survive being reopened, and an interrupted image continues from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from pipeline.engine import Engine, Published
from pipeline.errors import OutputError
from pipeline.ledger import MemoryLedger, pending
from pipeline.manifest import ImageRow, Manifest, ManifestLedger
from pipeline.orders import Order, Receipt
from pipeline.output import OutputPlan
from pipeline.recipe import parse_recipe
from pipeline.steps import Executor, perform_here
from pipeline.trial import perform_shuffled, plan_array, save_array


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.sqlite"


def test_facts_of_the_run_survive(path: Path) -> None:
    manifest = Manifest(path, write=True)
    manifest.put("request", "one")
    manifest.put("request", "two")
    manifest.close()
    manifest = Manifest(path, write=False)
    assert manifest.get("request") == "two"
    assert manifest.get("other") is None
    manifest.close()


def test_images_survive_with_their_shards(path: Path) -> None:
    row = ImageRow("b/2", "plan", "published", "/a/2.tif", "", {"shape": [1, 2]}, "digest")
    other = ImageRow("a", "plan", "quarantined", "/a/1.tif", "cannot be read")
    manifest = Manifest(path, write=True)
    manifest.set_image(row, {"labels": ["x:y", "z:w", "c"], "image": ["k"]})
    manifest.set_image(other)
    manifest.close()
    manifest = Manifest(path, write=False)
    names = [found.name for found in manifest.images()]
    assert names == ["a", "b/2"]
    found = manifest.image("b/2")
    assert found is not None
    assert dataclasses.replace(found, changed=0.0) == row
    assert found.changed > 1e9
    assert manifest.image("c") is None
    assert manifest.counts() == {"published": 1, "quarantined": 1}
    assert sorted(manifest.arrays("b/2")) == ["image", "labels"]
    assert manifest.arrays("a") == []
    assert manifest.shards("b/2", "labels") == ["x:y", "z:w", "c"]
    manifest.close()


def test_the_last_status_of_an_image_counts(path: Path) -> None:
    manifest = Manifest(path, write=True)
    row = ImageRow("a", "plan", "published", "/a.tif")
    manifest.set_image(row, {"labels": [str(i) for i in range(20)]})
    manifest.set_image(row, {"labels": ["0", "1"]})
    assert manifest.shards("a", "labels") == ["0", "1"]
    manifest.set_image(dataclasses.replace(row, status="quarantined", reason="gone"))
    assert manifest.counts() == {"quarantined": 1}
    # What was published of it stays on record.
    assert manifest.shards("a", "labels") == ["0", "1"]
    manifest.close()


def test_receipts_and_states_of_a_step_survive(path: Path, tmp_path: Path) -> None:
    receipts = [
        Receipt((4, 5), ("d4",), "records/4-5.npz", {}, 77, 0.5),
        Receipt((0, 1, 2), ("d0", "d1", "d2"), "", {}, 5, 0.25),
    ]
    state = {"threshold": np.array(3.5), "counts": np.arange(4)}
    manifest = Manifest(path, write=True)
    ledger = ManifestLedger(manifest, "work", tmp_path)
    assert ledger.persistent
    for receipt in receipts:
        ledger.add("0000-otsu", receipt)
    ledger.add("0000-otsu", receipts[0])
    ledger.close_step("0000-otsu", state)
    manifest.close()
    manifest = Manifest(path, write=True)
    ledger = ManifestLedger(manifest, "work", tmp_path)
    found = [dataclasses.replace(r, peak_bytes=0) for r in ledger.receipts("0000-otsu")]
    assert found == [dataclasses.replace(r, peak_bytes=0) for r in (receipts[1], receipts[0])]
    assert ledger.receipts("0001-next") == []
    known = ledger.state("0000-otsu")
    assert known is not None
    assert known.keys() == state.keys()
    assert all(np.array_equal(known[key], state[key]) for key in state)
    assert ledger.state("0001-next") is None
    other = ManifestLedger(manifest, "other work", tmp_path)
    assert other.receipts("0000-otsu") == []
    assert other.state("0000-otsu") is None
    manifest.forget_work("work")
    assert ledger.receipts("0000-otsu") == []
    assert ledger.state("0000-otsu") is None
    manifest.close()


def test_a_damaged_state_stops_the_run(path: Path, tmp_path: Path) -> None:
    manifest = Manifest(path, write=True)
    ledger = ManifestLedger(manifest, "work", tmp_path / "steps")
    ledger.close_step("0000-otsu", {"threshold": np.array(3.5)})
    (file,) = (tmp_path / "steps").iterdir()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(OutputError, match="damaged"):
        ledger.state("0000-otsu")
    file.unlink()
    with pytest.raises(OutputError, match="cannot be read"):
        ledger.state("0000-otsu")
    manifest.close()


def test_what_is_no_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database, although it is long enough to be one" * 90)
    with pytest.raises(OutputError, match="records cannot be opened"):
        Manifest(tmp_path / "text", write=True)
    with pytest.raises(OutputError, match="records cannot be opened"):
        Manifest(tmp_path / "missing", write=False)


def test_pending_numbers_are_those_without_receipt() -> None:
    receipts = [Receipt((1, 2), ("",)), Receipt((5,), ("",))]
    assert pending(range(7), receipts) == [0, 3, 4, 6]
    assert pending([5, 2, 0], receipts) == [0]


# --- An image that is continued ------------------------------------------------------------------


class PowerCut(Exception):
    """What happens between two orders."""


def until(orders_left: list[int], execute: Executor) -> Executor:
    """Perform so many orders, then fail."""

    def performing(orders: Iterable[Order]) -> Iterator[tuple[Order, Receipt | BaseException]]:
        for item in execute(orders):
            if orders_left[0] == 0:
                raise PowerCut
            orders_left[0] -= 1
            yield item

    return performing


def image() -> np.ndarray:
    rough = ndimage.gaussian_filter(np.random.default_rng(0).random((1, 1, 1, 50, 60)), 2.5)
    return ((rough - rough.min()) / np.ptp(rough)).astype(np.float32)


UNMASKED = {"method": "watershed", "landscape": "intensity", "masked": False}


ADAPTIVE = {
    "method": "region_growing",
    "seeds": {"from": "peaks", "min_distance_px": 3},
    "tolerance": 0.1,
    "rule": "adaptive",
}


@pytest.mark.parametrize(
    ("segment", "mode", "every"),
    [({"method": "threshold"}, "copy", 1), (UNMASKED, "none", 9), (ADAPTIVE, "none", 60)],
    ids=["threshold", "relaxed", "grown"],
)
def test_an_interrupted_image_continues_and_equals_one_that_was_not(
    segment: dict[str, object], mode: str, every: int, tmp_path: Path
) -> None:
    recipe = parse_recipe({"segment": segment, "postprocess": {"fill_holes": True}}, "recipe")
    spec = save_array(image(), tmp_path)

    def engine(folder: Path, manifest: Manifest | None, execute: Executor) -> Engine:
        job = plan_array(recipe, spec, 16, folder)
        output = OutputPlan(
            folder / "staged", folder / "objects.parquet", recipe, job.info, job.source, mode
        )
        if manifest is None:
            return Engine(job, output, execute, MemoryLedger(), 2)
        ledger = ManifestLedger(manifest, "work", folder / "work" / "steps")
        return Engine(job, output, execute, ledger, 2)

    def run_with_cuts(folder: Path) -> tuple[Published, int]:
        cuts = 0
        while True:
            manifest = Manifest(folder / "run.sqlite", write=True)
            execute = until([every], perform_shuffled(cuts + 1))
            try:
                return engine(folder, manifest, execute).run(), cuts
            except PowerCut:
                cuts += 1
            finally:
                manifest.close()

    (tmp_path / "whole").mkdir()
    whole = engine(tmp_path / "whole", None, perform_here).run()
    assert whole.count > 3
    (tmp_path / "cut").mkdir()
    found, cuts = run_with_cuts(tmp_path / "cut")
    assert cuts > 3
    assert (found.count, found.digest) == (whole.count, whole.digest)
    assert found.table_digest == whole.table_digest
    assert found.shards == whole.shards
    assert found.certificate == whole.certificate
