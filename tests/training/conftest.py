"""Torch computes on one core here: more only disturb each other."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from .small_data import write_pairs

# The base install has no torch.
collect_ignore_glob = [] if find_spec("torch") else ["*"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six small images of bright discs with their labels."""
    return write_pairs(tmp_path / "data")
