"""Which device a process takes, and how torch is settled in it."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

from pipeline.nets import device as module  # noqa: E402
from pipeline.nets.device import Precision, autocast, device, device_name, gpu_allowed  # noqa: E402


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


@pytest.mark.usefixtures("cuda")
def test_a_gpu_is_taken_where_it_is_allowed() -> None:
    assert device().type == "cpu"
    with gpu_allowed():
        assert device() == torch.device("cuda", 0)
    assert device().type == "cpu"


def test_a_gpu_that_torch_cannot_see_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    module._say_no_gpu.cache_clear()
    with caplog.at_level(logging.WARNING), gpu_allowed():
        assert device().type == "cpu"
        assert device_name() == "CPU"
    assert caplog.text.count("given GPU 7, but torch") == 1


def test_torch_is_settled() -> None:
    torch.backends.cudnn.allow_tf32 = True  # torch's default
    module.settle.cache_clear()
    device()
    assert torch.get_num_threads() == 1
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.benchmark
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize(
    ("precision", "expected"),
    [
        ("float32", torch.float32),
        ("tf32", torch.float32),
        ("bf16", torch.bfloat16),
        ("fp16", torch.float16),
    ],
)
def test_precision_on_the_cpu(precision: Precision, expected: torch.dtype) -> None:
    product = torch.nn.Linear(4, 4)
    with torch.inference_mode(), autocast(precision):
        assert product(torch.ones(1, 4)).dtype == expected
        assert not torch.backends.cudnn.allow_tf32


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_tf32_is_on_while_it_is_asked_for(precision: Precision) -> None:
    with gpu_allowed(), autocast(precision):
        for setting in (torch.backends.cudnn, torch.backends.cuda.matmul):
            assert setting.allow_tf32 == (precision == "tf32")
    assert not torch.backends.cudnn.allow_tf32


def test_torch_is_imported_late() -> None:
    """Workers import these modules, whatever their recipe is."""
    code = (
        "import sys, workers.place, workers.tasks, pipeline.plan; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_missing_torch_names_the_extra() -> None:
    code = """
import sys
sys.modules["torch"] = None
from pipeline.nets.device import device
device()
"""
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert "pip install 'tilewright[nets]'" in answer.stderr.splitlines()[-1]
