"""The probe finds cards that lie, and passes what was measured."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nets.small_nets import SegNet, UNet, conv, deeplab
from pipeline.errors import ModelError
from pipeline.nets.context import GlobalContext
from pipeline.nets.probe import check_reach
from pipeline.nets.reach import Reach, measure_reach


class Gate(nn.Module):
    """A comparison lets no NaN pass."""

    def __init__(self) -> None:
        super().__init__()
        self.far = conv(1, 1, 9)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.where(self.far(x) > 0, 1.0, 2.0)


def claimed(halo_px: int, stride_px: int, ndim: int = 2) -> Reach:
    """What a card says."""
    return Reach((stride_px,) * ndim, (halo_px,) * ndim, (halo_px,) * ndim)


@pytest.mark.parametrize(
    "net", [UNet(1), UNet(3), SegNet(), conv(1, 2, 5), Gate(), UNet(1, ndim=3)]
)
def test_the_measured_reach_passes(net):
    ndim = 3 if isinstance(net, UNet) and isinstance(net.head, nn.Conv3d) else 2
    epsilon = check_reach(net.eval(), 1, measure_reach(net.eval(), 1, ndim))
    assert 0 <= epsilon < 1e-5


@pytest.mark.parametrize(
    ("net", "halo_px", "stride_px"),
    [(UNet(1), 6, 2), (UNet(2), 16, 4), (UNet(3), 40, 8), (SegNet(), 2, 2), (conv(1, 2, 5), 1, 1)],
)
def test_a_halo_that_is_too_small_is_found(net, halo_px, stride_px):
    with pytest.raises(ModelError, match=rf"^my-model: along axis 0 .* more than {halo_px} px"):
        check_reach(net.eval(), 1, claimed(halo_px, stride_px), name="my-model")


def test_what_stops_nan_is_found_by_other_numbers():
    image = torch.zeros(1, 1, 16, 16)
    image[..., 8] = torch.nan
    assert not Gate()(image).isnan().any()
    assert check_reach(Gate(), 1, claimed(4, 1)) == 0
    with pytest.raises(ModelError, match="more than 3 px"):
        check_reach(Gate(), 1, claimed(3, 1))


def test_one_axis_may_lie_alone():
    net = nn.Conv2d(1, 1, (3, 7), padding=(1, 3))
    check_reach(net, 1, Reach((1, 1), (1, 3), (1, 3)))
    with pytest.raises(ModelError, match="along axis 1"):
        check_reach(net, 1, Reach((1, 1), (1, 2), (1, 2)))


class Checkers(nn.Module):
    """Every other pixel is treated otherwise: a stride of 2 that no layer's size tells."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (1 + torch.arange(x.shape[2]) % 2)[:, None]


def test_a_stride_that_is_too_small_is_found():
    assert check_reach(Checkers(), 1, claimed(0, 2)) == 0
    with pytest.raises(ModelError, match=r"begin 1 px apart differs by .* Correct stride_px"):
        check_reach(Checkers(), 1, claimed(0, 1))
    with pytest.raises(ModelError, match=r"cannot be run on \[.*\] px, which its total stride"):
        check_reach(UNet(2).eval(), 1, claimed(23, 1))


def test_sides_that_change_are_refused():
    with pytest.raises(ModelError, match="sides must be equal"):
        check_reach(nn.MaxPool2d(2), 1, claimed(2, 2))


def test_networks_of_the_whole_frame_pass_with_statistics_put_in():
    context = GlobalContext(deeplab())
    assert check_reach(context.windowed, 1, context.reach) < 1e-5
    with pytest.raises(ModelError, match="more than"):
        check_reach(context.module, 1, context.reach)
