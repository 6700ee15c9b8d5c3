"""Torch computes on one core here: more only disturb each other."""

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

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
