"""What ATen operations read that only move or cut arrays, see `nets.rules`. Needs torch."""

from __future__ import annotations

from fractions import Fraction

from pipeline.nets.axes import Axis, Dim, Factor, Layout, regroup, single
from pipeline.nets.call import Call, demand_channels, rule, size_of


@rule("view", "_unsafe_view", "reshape", "_reshape_alias", "_reshape_copy")
def _view(call: Call) -> list[Layout]:
    return [regroup(call.source, call.shape)]


@rule("permute")
def _permute(call: Call) -> list[Layout]:
    return [tuple(call.source[dim] for dim in call.args["dims"])]


@rule("transpose")
def _transpose(call: Call) -> list[Layout]:
    found = list(call.source)
    one, other = call.dim("dim0"), call.dim("dim1")
    found[one], found[other] = found[other], found[one]
    return [tuple(found)]


@rule("t")
def _t(call: Call) -> list[Layout]:
    return [call.source[::-1]]


@rule("unsqueeze")
def _unsqueeze(call: Call) -> list[Layout]:
    found = list(call.source)
    found.insert(call.args["dim"] % len(call.shape), (Factor(1),))
    return [tuple(found)]


@rule("squeeze")
def _squeeze(call: Call) -> list[Layout]:
    dims = call.dims() if "dim" in call.args else set(range(len(call.source)))
    return [tuple(d for k, d in enumerate(call.source) if k not in dims or size_of(d) > 1)]


@rule("expand", "repeat")
def _expand(call: Call) -> list[Layout]:
    new = len(call.shape) - len(call.source)
    found: list[Dim] = [(Factor(size),) for size in call.shape]
    for k, dim in enumerate(call.source, new):
        if size_of(dim) == call.shape[k]:
            found[k] = dim
        else:
            demand_channels(dim)
    return [tuple(found)]


@rule("slice")
def _slice(call: Call) -> list[Layout]:
    return [_cut(call, call.dim(), call.args["start"] or 0, call.args["step"])]


def _cut(call: Call, dim: int, start: int, step: int = 1) -> Layout:
    """Every `step`-th index from `start` on."""
    found = list(call.source)
    if size_of(found[dim]) != call.shape[dim]:
        size = size_of(found[dim])
        axis = single(found[dim])
        start = start + size if start < 0 else start
        found[dim] = (Factor(call.shape[dim], axis and axis.reads(step, start)),)
    return tuple(found)


@rule("select")
def _select(call: Call) -> list[Layout]:
    demand_channels(call.source[call.dim()])
    return [tuple(dim for k, dim in enumerate(call.source) if k != call.dim())]


@rule("split", "split_with_sizes", "unsafe_split", "chunk")
def _split(call: Call) -> list[Layout]:
    dim = call.dim()
    demand_channels(call.source[dim])
    return [
        tuple((Factor(shape[dim]),) if k == dim else d for k, d in enumerate(call.source))
        for shape in call.shapes
    ]


@rule("unbind")
def _unbind(call: Call) -> list[Layout]:
    return _select(call) * len(call.shapes)


@rule("index_select")
def _index_select(call: Call) -> list[Layout]:
    demand_channels(call.source[call.dim()])
    found = list(call.source)
    found[call.dim()] = (Factor(call.shape[call.dim()]),)
    return [tuple(found)]


@rule(
    *("constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d"),
    *("replication_pad1d", "replication_pad2d", "replication_pad3d"),
)
def _pad(call: Call) -> list[Layout]:
    # Mirrored and repeated pixels lie nearer to a pixel of the frame than the place they fill.
    pads = call.args["pad" if "pad" in call.args else "padding"]
    ndim = len(pads) // 2
    before = pads[::2][::-1]

    def change(k: int, axis: Axis) -> Axis:
        return axis.reads(1, -before[k])

    return call.moved(ndim, change, beyond=max(pads) > 0)


@rule("pixel_shuffle", "pixel_unshuffle")
def _pixel_shuffle(call: Call) -> list[Layout]:
    finer = call.name == "pixel_shuffle"
    r = call.args["upscale_factor" if finer else "downscale_factor"]
    demand_channels(call.source[-3])

    def change(k: int, axis: Axis) -> Axis:
        return (
            axis.reads(Fraction(1, r), Fraction(1 - r, r), 0) if finer else axis.reads(r, 0, r - 1)
        )

    found = call.moved(2, change, beyond=False)[0]
    return [(*found[:-3], (Factor(call.shape[-3]),), *found[-2:])]
