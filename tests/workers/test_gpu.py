"""GPU workers, pretended: named by TILEWRIGHT_GPUS, they compute on the CPU."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import numpy as np
import pytest

from flows import devices, run
from flows.devices import DEVICE, choose_device, own_gpus
from flows.request import Request
from pipeline.conformance import check_image
from pipeline.errors import ClusterError
from pipeline.kernels.components import components
from pipeline.methods.base import Context, Method, Output, Round, State, TileLabels
from pipeline.nets import device
from pipeline.plan import Machine
from pipeline.recipe import Recipe
from pipeline.records import Record
from pipeline.run_folder import RunFolder
from pipeline.trial import Cut, save_array
from pipeline.view import TileView
from tests import in_process
from workers import embedded, gpu, submit
from workers.cluster import open_cluster
from workers.gpu import ORDERS_PER_GPU, gpus
from workers.place import Place, find_place
from workers.submit import run_batches, run_serially


class Toy(Method):
    """Components of pixels above the mean; a survey on CPUs, labels on GPUs.

    `log` is a folder that every visit of a tile leaves a file in.
    """

    method: Literal["toy"] = "toy"
    log: str = ""
    seconds: float = 0.0

    def next_round(self, state: State, context: Context) -> Round | None:
        if "limit" not in state:
            return Mean(self.log)
        return None if "done" in state else Label(self.log, self.seconds)

    def wants_gpu(self) -> bool:
        return True

    def halo_px(self) -> int:
        return 0

    def peak_bytes_per_px(self) -> float:
        return 24.0


@dataclass(frozen=True)
class Mean(Round):
    log: str
    name: ClassVar[str] = "mean"

    def map(self, view: TileView, state: State) -> Output:
        note(self.log, self.name, view)
        pixels = view.image()[0].astype(np.int64)
        return Output({"sums": np.array([pixels.size, pixels.sum()])})

    def reduce(self, records: Iterable[tuple[int, Record]], state: State) -> State:
        count, total = sum(record["sums"] for _, record in records)
        return {**state, "limit": np.array(total // count)}


@dataclass(frozen=True)
class Label(Round):
    log: str
    seconds: float
    name: ClassVar[str] = "label"
    device: ClassVar[Literal["cpu", "gpu"]] = "gpu"

    def map(self, view: TileView, state: State) -> Output:
        note(self.log, self.name, view)
        time.sleep(self.seconds)
        labels, _ = components(view.image()[0] > state["limit"], 8)
        return Output({}, TileLabels(labels, touching=8))

    def reduce(self, records: Iterable[tuple[int, Record]], state: State) -> State:
        list(records)
        return {**state, "done": np.array(1)}


def note(log: str, name: str, view: TileView) -> None:
    """Leave a file that says where a tile was visited."""
    if log:
        where = "gpu" if device._allowed.get() else "cpu"
        given = os.environ.get("TOY_GPU", "")
        (Path(log) / f"{name} {where} {given} {view.tile.number} {time.time_ns()}").touch()


@pytest.fixture(autouse=True)
def mark_gpu_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own mark: CUDA_VISIBLE_DEVICES may be set in their environment, too."""
    ours = gpu.gpu_environment
    monkeypatch.setattr(embedded, "gpu_environment", lambda name: {**ours(name), "TOY_GPU": name})


@dataclass(frozen=True)
class Batch:
    number: int
    wants_gpu: bool = False
    seconds: float = 0.0


def where(batch: Batch) -> tuple[str, bool, int]:
    """The GPU of the worker, whether it may be used, and how many batches run here at once."""
    with _lock:
        _running.append(1)
    time.sleep(batch.seconds)
    found = len(_running)
    with _lock:
        _running.pop()
    return os.environ.get("TOY_GPU", ""), device._allowed.get(), found


_lock = threading.Lock()
_running: list[int] = []


def batches(count: int, on_gpu: bool, seconds: float = 0.0) -> list[Batch]:
    return [Batch(number, on_gpu, seconds) for number in range(count)]


# Which GPUs there are


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0,1", ("0", "1")),
        (" 0 , GPU-5d3 ", ("0", "GPU-5d3")),
        ("1,1", ("1",)),
        ("", ()),
        ("none", ()),
        ("None", ()),
    ],
)
def test_named_gpus(value: str, expected: tuple[str, ...]) -> None:
    assert gpus({"TILEWRIGHT_GPUS": value, "CUDA_VISIBLE_DEVICES": "5"}) == expected


def driver(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put an `nvidia-smi` in the path, and nothing else."""
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(gpu, "_ask_nvml", lambda: ())


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, ("GPU-aa", "GPU-bb")),
        ("1", ("1",)),
        ("GPU-bb", ("GPU-bb",)),
        ("MIG-cc", ("MIG-cc",)),
        ("0,-1,1", ("0",)),  # as CUDA has it
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),  # SLURM
    ],
)
def test_the_driver_is_asked(
    visible: str | None, expected: tuple[str, ...], tmp_path: Path, monkeypatch: Any
) -> None:
    driver(tmp_path, monkeypatch, "echo GPU-aa; echo GPU-bb")
    assert gpus({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}) == expected


@pytest.mark.parametrize(
    "script", ["echo 'No devices were found'; exit 6", "exec sleep 30", "exit 9"]
)
def test_a_broken_driver_is_no_gpu(script: str, tmp_path: Path, monkeypatch: Any) -> None:
    driver(tmp_path, monkeypatch, script)
    monkeypatch.setattr(gpu, "ASK_SECONDS", 0.5)
    assert gpus({"CUDA_VISIBLE_DEVICES": "0"}) == ()


def test_no_driver_is_no_gpu(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(gpu, "_ask_nvml", lambda: ())
    assert gpus({}) == gpus({"CUDA_VISIBLE_DEVICES": "0,1"}) == ()


def test_nvml_gives_uuids(monkeypatch: Any) -> None:
    class NVMLError(Exception):
        pass

    module = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda n: n,
        nvmlDeviceGetUUID=lambda n: [b"GPU-aa", "GPU-bb"][n],
    )
    monkeypatch.setitem(__import__("sys").modules, "pynvml", module)
    assert gpus({}) == ("GPU-aa", "GPU-bb")
    module.nvmlDeviceGetCount = lambda: (_ for _ in ()).throw(NVMLError)
    monkeypatch.setenv("PATH", "")
    assert gpus({}) == ()


# The embedded cluster, and who goes where


@pytest.fixture(scope="module")
def two_gpus() -> Iterator[Any]:
    patch = pytest.MonkeyPatch()
    ours = gpu.gpu_environment
    patch.setattr(embedded, "gpu_environment", lambda name: {**ours(name), "TOY_GPU": name})
    with open_cluster(2, None, 1 << 30, gpus=["0", "1"]) as client:
        client.wait_for_workers(4, timeout=60)
        yield client
    patch.undo()


def test_workers_of_gpus(two_gpus: Any) -> None:
    workers = two_gpus.scheduler_info(n_workers=-1)["workers"]
    found = {w["name"]: (w["nthreads"], w["resources"]) for w in workers.values()}
    of_a_gpu = (ORDERS_PER_GPU, {"GPU": ORDERS_PER_GPU})
    of_a_cpu = (1, {"CPU": 1})
    assert found == {0: of_a_cpu, 1: of_a_cpu, "gpu-0": of_a_gpu, "gpu-1": of_a_gpu}
    limits = {w["name"]: w["memory_limit"] for w in workers.values()}
    assert (limits[0], limits["gpu-0"]) == (1 << 30, ORDERS_PER_GPU << 30)
    addresses = {w["name"]: address for address, w in workers.items()}
    seen = two_gpus.run(lambda: os.environ.get("CUDA_VISIBLE_DEVICES"))
    assert [seen[addresses[f"gpu-{n}"]] for n in "01"] == ["0", "1"]


def test_batches_for_gpus_go_to_gpus(two_gpus: Any) -> None:
    found = [a for _, a in run_batches(two_gpus, where, batches(24, True, 0.05), use_gpus=True)]
    assert {name for name, _, _ in found} == {"0", "1"}
    assert all(allowed for _, allowed, _ in found)
    assert max(at_once for _, _, at_once in found) == ORDERS_PER_GPU


def test_other_batches_stay_off_the_gpus(two_gpus: Any) -> None:
    found = [a for _, a in run_batches(two_gpus, where, batches(24, False, 0.05), use_gpus=True)]
    assert set(found) == {("", False, 1)}


def test_a_run_on_cpus_stays_off_the_gpus(two_gpus: Any) -> None:
    found = [a for _, a in run_batches(two_gpus, where, batches(24, True, 0.05))]
    assert set(found) == {("", False, 1)}


def test_places(two_gpus: Any) -> None:
    assert find_place(two_gpus, True) == Place({"GPU": 1.0}, 2 * ORDERS_PER_GPU)
    assert find_place(two_gpus, False) == Place({"CPU": 1.0}, 2)


def workers_with(*resources: dict[str, int]) -> Any:
    found = {str(n): {"nthreads": 2, "resources": one} for n, one in enumerate(resources)}
    return SimpleNamespace(scheduler_info=lambda n_workers: {"workers": found})


@pytest.mark.parametrize(
    ("resources", "on_gpu", "expected"),
    [
        ([], False, Place(None, 0)),
        ([], True, Place({"GPU": 1.0}, 0)),
        ([{}, {}], False, Place(None, 4)),
        ([{"GPU": 1}, {}], True, Place({"GPU": 1.0}, 1)),
        ([{"GPU": 2}, {"GPU": 4}], True, Place({"GPU": 1.0}, 4)),  # never more than threads
        ([{"GPU": 1}, {}], False, Place(None, 4)),  # nobody says that he has a CPU
        ([{"GPU": 1}, {"CPU": 2}], False, Place({"CPU": 1.0}, 2)),
        ([{"CPU": 2}], False, Place(None, 2)),  # there is no GPU to stay off
    ],
)
def test_place_by_what_workers_have(resources: Any, on_gpu: bool, expected: Place) -> None:
    assert find_place(workers_with(*resources), on_gpu) == expected


def test_without_gpus_nobody_has_resources() -> None:
    with open_cluster(1, None) as client:
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        assert [w["resources"] for w in workers] == [{}]
        assert find_place(client, False) == Place(None, 1)


def test_gpu_workers_that_are_not_there(monkeypatch: Any) -> None:
    monkeypatch.setattr(submit, "NO_WORKERS_SECONDS", 1.0)
    monkeypatch.setattr(submit, "REFRESH_SECONDS", 0.2)
    with open_cluster(1, None) as client:
        began = time.monotonic()
        with pytest.raises(ClusterError, match=r"No worker with a GPU .* run the same command"):
            list(run_batches(client, where, batches(3, True), use_gpus=True))
        assert 1 < time.monotonic() - began < 10
        assert [a for _, a in run_batches(client, where, batches(1, True))] == [("", False, 1)]


def test_the_scheduler_gives_up_first() -> None:
    with open_cluster(1, None) as client:
        client.cluster.scheduler.no_workers_timeout = 0.5
        ((_, answer),) = run_batches(client, where, batches(1, True), use_gpus=True)
    assert isinstance(answer, ClusterError)
    assert str(answer).startswith("No worker with a GPU")


# Whole runs


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images; what is in them does not matter."""
    folder = tmp_path_factory.mktemp("archive")
    rng = np.random.default_rng(0)
    for name, shape in {"a": (200, 260), "b": (130, 90)}.items():
        (folder / name).mkdir()
        save_array(rng.integers(0, 255, shape).astype(np.uint8), folder / name)
    return folder


def segment(
    archive: Path, out: Path, client: Any = None, *, small: bool = False, **toy: Any
) -> tuple[list[str], str]:
    """Run the toy on a cluster or, without one, here; returns digests of labels and table."""
    request = Request(Recipe(segment=Toy(**toy), label="toy"), archive, out, tile_px=64)
    work = partial(run_batches, client, use_gpus=True) if client else run_serially
    return in_process.digests(in_process.segment(request, work, small=small))


@pytest.fixture(scope="module")
def untouched(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], str]:
    labels, table = segment(archive, tmp_path_factory.mktemp("serial") / "out")
    assert len(labels) == 2
    assert all(" published " in label for label in labels)
    return labels, table


def visits(log: Path) -> dict[str, set[str]]:
    """Round -> where its tiles were visited: "gpu 0" or "cpu"."""
    found: dict[str, set[str]] = {}
    for path in log.iterdir():
        name, device_kind, given, *_ = path.name.split(" ")
        found.setdefault(name, set()).add(f"{device_kind} {given}".strip())
    return found


def test_rounds_go_where_they_want(
    archive: Path, two_gpus: Any, untouched: Any, tmp_path: Path
) -> None:
    (log := tmp_path / "log").mkdir()
    assert segment(archive, tmp_path / "out", two_gpus, log=str(log), seconds=0.02) == untouched
    assert visits(log) == {"mean": {"cpu"}, "label": {"gpu 0", "gpu 1"}}


def test_small_images_go_to_gpus_as_a_whole(
    archive: Path, two_gpus: Any, untouched: Any, tmp_path: Path
) -> None:
    (log := tmp_path / "log").mkdir()
    assert segment(archive, tmp_path / "out", two_gpus, small=True, log=str(log)) == untouched
    assert {kind.split()[0] for kinds in visits(log).values() for kind in kinds} == {"gpu"}
    assert len(list(log.glob("mean gpu *"))) == len(list(log.glob("label gpu *"))) > 20


def test_the_toy_conforms(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 255, (90, 70)).astype(np.uint8)
    recipe = Recipe(segment=Toy(), label="toy")
    check_image(recipe, image, [Cut(16), Cut((33, 20), order=1)], tmp_path, "toy")


@pytest.mark.crash
@pytest.mark.parametrize("victims", ["gpu-0", "cpu"])
def test_a_killed_worker_changes_nothing(
    victims: str, archive: Path, untouched: Any, tmp_path: Path
) -> None:
    (log := tmp_path / "log").mkdir()
    with open_cluster(1, None, gpus=["0"]) as client:
        client.wait_for_workers(2, timeout=60)
        kill = threading.Thread(target=kill_one, args=(client, log, victims))
        kill.start()
        found = segment(archive, tmp_path / "out", client, log=str(log), seconds=0.1)
        kill.join()
    assert found == untouched
    assert visits(log) == {"mean": {"cpu"}, "label": {"gpu 0"}}


def kill_one(client: Any, log: Path, victim: str) -> None:
    """Kill -9 a worker when some tiles are labelled and others are not; twice."""
    for visited in (4, 12):
        while len(list(log.glob("label *"))) < visited:
            time.sleep(0.01)
        workers = client.scheduler_info(n_workers=-1)["workers"]
        pids = client.run(os.getpid, workers=[a for a, w in workers.items() if is_a(w, victim)])
        for pid in pids.values():
            os.kill(pid, signal.SIGKILL)
        assert pids


def is_a(worker: dict[str, Any], victim: str) -> bool:
    return bool(worker["name"] == victim or (victim == "cpu" and "CPU" in worker["resources"]))


@pytest.mark.crash
def test_a_run_stops_without_its_gpus_and_goes_on_with_them(
    archive: Path, untouched: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(submit, "NO_WORKERS_SECONDS", 1.0)
    monkeypatch.setattr(submit, "REFRESH_SECONDS", 0.2)
    (log := tmp_path / "log").mkdir()
    out = tmp_path / "out"
    options = {"log": str(log), "seconds": 0.1}
    with open_cluster(1, None, gpus=["0"]) as client:
        client.wait_for_workers(2, timeout=60)
        gone = threading.Thread(target=take_away, args=(client, log))
        gone.start()
        with pytest.raises(ClusterError, match="No worker with a GPU"):
            segment(archive, out, client, **options)
        gone.join()
    manifest = RunFolder(out).reading()
    assert not list(manifest.images())  # nothing is quarantined for it
    assert manifest.work_in_progress()
    manifest.close()
    with open_cluster(1, None, gpus=["0"]) as client:
        assert segment(archive, out, client, **options) == untouched
    tiles = 5 * 4 + 2 * 3
    # What was cut off is repeated: orders of two tiles.
    assert len(list(log.glob("label *"))) <= tiles + 2 * ORDERS_PER_GPU


def take_away(client: Any, log: Path) -> None:
    """End the GPU worker for good."""
    while len(list(log.glob("label *"))) < 4:
        time.sleep(0.01)
    specification = client.cluster.worker_spec
    del specification["gpu-0"]
    client.cluster.scale(len(specification))


# The command


@pytest.fixture
def command(here: Any, monkeypatch: Any) -> Callable[..., dict[str, Any]]:
    """The command in this process, with a real cluster."""
    monkeypatch.setattr(run, "open_cluster", open_cluster)
    monkeypatch.setattr(run, "run_batches", run_batches)

    def call(archive: Path, out: Path, gpus: str) -> dict[str, Any]:
        monkeypatch.setenv("TILEWRIGHT_GPUS", gpus)
        log = out.parent / "log"
        log.mkdir(exist_ok=True, parents=True)
        recipe = Recipe(segment=Toy(log=str(log)), label="toy")
        return run.run_request(Request(recipe, archive, out, tile_px=64, workers=1))

    return call


def test_a_run_keeps_its_device(archive: Path, command: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    one = command(archive / "a", out, "0")
    assert one["counts"]["published"] == 1
    assert {kind.split()[0] for kinds in visits(tmp_path / "log").values() for kind in kinds} == {
        "gpu"
    }
    with pytest.raises(ClusterError, match=r"begun on GPUs, and this machine has none"):
        command(archive / "a", out, "none")
    assert command(archive / "a", tmp_path / "other" / "out", "none")["counts"]["published"] == 1
    assert visits(tmp_path / "other" / "log") == {"mean": {"cpu"}, "label": {"cpu"}}


class Facts(dict[str, str]):
    """A manifest's facts, of a run that has begun or not."""

    def __init__(self, begun: bool, **facts: str) -> None:
        super().__init__(facts)
        self.begun = begun

    def counts(self) -> dict[str, int]:
        return {"published": 1} if self.begun else {}

    def work_in_progress(self) -> dict[str, Any]:
        return {}

    def put(self, key: str, value: str) -> None:
        self[key] = value


@pytest.mark.parametrize(
    ("manifest", "there", "expected", "kept"),
    [
        (Facts(False), True, "gpu", "gpu"),
        (Facts(False), False, "cpu", "cpu"),
        (Facts(True, device="cpu"), True, "cpu", "cpu"),
        (Facts(True, device="gpu"), True, "gpu", "gpu"),
        (Facts(False, device="gpu"), False, "cpu", "cpu"),  # nothing was done: it may change
    ],
)
@pytest.mark.parametrize("scheduler", [None, "tcp://somewhere"])
def test_choice_of_a_device(
    manifest: Any, there: bool, expected: str, kept: str, scheduler: str | None, monkeypatch: Any
) -> None:
    manifest = Facts(manifest.begun, **manifest)
    request = Request(Recipe(segment=Toy()), Path("a"), Path("b"), scheduler=scheduler)
    client: Any = workers_with({"GPU": 1} if there else {})
    found = ("0",) if there and scheduler is None else ()
    assert choose_device(request, manifest, client, found) == expected
    assert manifest[DEVICE] == kept


def test_a_scheduler_may_get_its_gpu_workers_back() -> None:
    """Orders wait for them; see `test_gpu_workers_that_are_not_there`."""
    request = Request(Recipe(segment=Toy()), Path("a"), Path("b"), scheduler="tcp://somewhere")
    manifest: Any = Facts(True, device="gpu")
    assert choose_device(request, manifest, workers_with({}), ()) == "gpu"


def test_recipes_without_use_for_gpus_leave_them(monkeypatch: Any) -> None:
    monkeypatch.setenv("TILEWRIGHT_GPUS", "0")
    plain = Recipe.model_validate({"segment": {"method": "threshold"}})
    facts: Any = Facts(False)
    request = Request(plain, Path("a"), Path("b"))
    assert own_gpus(request) == ()
    assert choose_device(request, facts, workers_with({"GPU": 1}), ()) == "cpu"
    assert not facts
    wanting = Request(Recipe(segment=Toy()), Path("a"), Path("b"))
    assert own_gpus(wanting) == ("0",)
    assert devices.own_gpus(Request(wanting.recipe, Path("a"), Path("b"), scheduler="x")) == ()


def test_gpu_orders_take_their_part_of_the_memory() -> None:
    recipe = Recipe.model_validate(
        {"segment": {"method": "threshold"}, "resources": {"memory_gib": 8}}
    )
    assert Machine.of(recipe, 2).bytes_per_worker == 4 * 2**30
    assert Machine.of(recipe, 2, 2).bytes_per_worker == 2 * 2**30
