"""What each ATen operation reads: a table from its name to a rule. Needs torch.

What only moves or cuts arrays is in `pipeline.nets.shape_rules`. An operation without a rule is
refused by `pipeline.nets.dependence`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from math import ceil, floor

from torch import Tensor

from pipeline.nets.axes import Axis, Factor, Layout, MixingError, hull, is_space
from pipeline.nets.call import Call, demand_channels, rule

#: Why a statistic of the frame that `pipeline.nets.context` has not put in is refused.
WHOLE_FRAME = (
    "is taken over all pixels; only means, and instance and group norms, are summed over a frame"
)


# --- Windows that move with the pixel ------------------------------------------------------------


@rule("convolution", "_convolution")
def _convolution(call: Call) -> list[Layout]:
    weight: Tensor = call.args["weight"]
    ndim = weight.dim() - 2
    if any(map(is_space, call.known.layout(weight))):
        raise MixingError("has weights that are made of the image")
    demand_channels(call.source[1])
    strides, pads = call.each("stride", ndim), call.each("padding", ndim)
    reaches = [
        d * (k - 1) for d, k in zip(call.each("dilation", ndim), weight.shape[2:], strict=True)
    ]
    turned: bool = call.args["transposed"]

    def change(k: int, axis: Axis) -> Axis:
        if turned:
            return _spread(axis, strides[k], pads[k], reaches[k])
        return axis.reads(strides[k], -pads[k], reaches[k] - pads[k])

    found = call.moved(ndim, change, beyond=turned or any(pads))[0]
    return [(found[0], (Factor(call.shape[1]),), *found[2:])]


def _spread(axis: Axis, stride: int, padding: int, reach: int) -> Axis:
    """Index `i` writes to `stride * i - padding` and `reach` behind."""
    return axis.reads(
        Fraction(1, stride), Fraction(padding - reach, stride), Fraction(padding, stride)
    )


@rule(
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "max_pool2d_with_indices", "max_pool3d_with_indices"
)
def _pool(call: Call) -> list[Layout]:
    pool = call.own_pool()

    def change(k: int, axis: Axis) -> Axis:
        return axis.reads(pool.stride[k], -pool.padding[k], pool.reach(k) - pool.padding[k])

    return call.moved(pool.ndim, change, beyond=any(pool.padding) or call.args["ceil_mode"])


@rule("max_unpool2d", "max_unpool3d")
def _unpool(call: Call) -> list[Layout]:
    pool, places = call.known.pool(call.args["indices"])
    source = tuple(hull(one, other) for one, other in zip(call.source, places, strict=True))

    def change(k: int, axis: Axis) -> Axis:
        return _spread(axis, pool.stride[k], pool.padding[k], pool.reach(k))

    return call.moved(pool.ndim, change, beyond=True, source=source)


# --- Resampling ----------------------------------------------------------------------------------

#: First and last index that is read at a place, in indices of the array that is resampled.
_TAPS: dict[str, Callable[[Fraction], tuple[int, int]]] = {
    "nearest": lambda at: (floor(at), floor(at)),
    # Where a place is a whole number, rounding may choose the index before.
    "linear": lambda at: (ceil(at) - 1, floor(at) + 1),
    "cubic": lambda at: (ceil(at) - 2, floor(at) + 2),
}


@rule("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d")
def _nearest(call: Call) -> list[Layout]:
    return _resample(call, "nearest", Fraction(0), Fraction(0))


@rule("_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d")
def _nearest_exact(call: Call) -> list[Layout]:
    return _resample(call, "nearest", Fraction(1, 2), Fraction(0))


@rule("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d")
def _interpolate(call: Call) -> list[Layout]:
    if call.args["align_corners"]:
        raise MixingError(
            "aligns corners, so that where it reads depends on the size of the image; "
            "use align_corners=False"
        )
    taps = "cubic" if "cubic" in call.name else "linear"
    return _resample(call, taps, Fraction(1, 2), Fraction(1, 2))


def _resample(call: Call, taps: str, before: Fraction, after: Fraction) -> list[Layout]:
    """Index `o` reads around the place (o + before) * ratio - after."""
    ndim = int(call.name[-2])
    ratios = [_ratio(call, k, ndim) for k in range(ndim)]
    if all(ratio == 1 for ratio in ratios):
        return [call.source]

    def change(k: int, axis: Axis) -> Axis:
        ratio = ratios[k]
        places = [(o + before) * ratio - after for o in range(ratio.denominator)]
        read = [_TAPS[taps](place) for place in places]
        first = min(a - o * ratio for o, (a, _) in enumerate(read))
        last = max(b - o * ratio for o, (_, b) in enumerate(read))
        return axis.reads(ratio, first, last)

    return call.moved(ndim, change, beyond=True)


def _ratio(call: Call, k: int, ndim: int) -> Fraction:
    """Indices of the array before for each one behind; torch prefers a scale that it was given."""
    key = "scales" if ndim == 1 else "scales_" + "dhw"[k - ndim]
    scale = call.args.get(key)
    if scale:
        return 1 / Fraction(scale).limit_denominator(1024)
    return Fraction(int(call.first.shape[k - ndim]), call.shape[k - ndim])


# --- Pixels that stay where they are -------------------------------------------------------------


@rule(
    *("alias", "clone", "contiguous", "detach", "lift_fresh", "_to_copy", "to", "fill", "zero"),
    *("_prelu_kernel", "rrelu_with_noise", "elu", "celu"),
)
def _same(call: Call) -> list[Layout]:
    return [call.source]


@rule("native_dropout")
def _dropout(call: Call) -> list[Layout]:
    if call.args["train"]:
        raise MixingError("draws random numbers; call eval() on the model")
    return [call.source]


@rule("copy")
def _copy(call: Call) -> list[Layout]:
    return [call.known.broadcast([call.args["src"]], call.shape)]


@rule("cat")
def _cat(call: Call) -> list[Layout]:
    tensors: Sequence[Tensor] = call.args["tensors"]
    dim = call.args["dim"] % len(call.shape)
    found = list(call.known.broadcast(tensors, call.shape, free=dim))
    for tensor in tensors:
        demand_channels(call.known.layout(tensor)[dim])
    found[dim] = (Factor(call.shape[dim]),)
    return [tuple(found)]


@rule("stack")
def _stack(call: Call) -> list[Layout]:
    dim = call.args["dim"] % len(call.shape)
    shape = call.shape[:dim] + call.shape[dim + 1 :]
    found = list(call.known.broadcast(call.args["tensors"], shape))
    found.insert(dim, (Factor(call.shape[dim]),))
    return [tuple(found)]


@rule(
    *("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training"),
    *("cudnn_batch_norm", "_batch_norm_no_update"),
)
def _batch_norm(call: Call) -> list[Layout]:
    if call.args.get("training", False):
        raise MixingError(f"takes means of the image (is eval() called?), and {WHOLE_FRAME}")
    return [call.source]


@rule("native_layer_norm")
def _layer_norm(call: Call) -> list[Layout]:
    for dim in call.source[-len(call.args["normalized_shape"]) :]:
        demand_channels(dim)
    return [call.source]


@rule("native_group_norm", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d")
def _whole_frame(call: Call) -> list[Layout]:
    raise MixingError(WHOLE_FRAME)


@rule("_softmax", "_log_softmax", "cumsum", "cumprod", "sort", "topk")
def _along(call: Call) -> list[Layout]:
    dim = call.dim()
    demand_channels(call.source[dim])
    found = list(call.source)
    found[dim] = (Factor(call.shape[dim]),)
    return [tuple(found)] * len(call.shapes)


@rule(
    *("sum", "mean", "amax", "amin", "max", "min", "argmax", "argmin", "prod", "var", "std"),
    *("var_mean", "std_mean", "logsumexp", "linalg_vector_norm", "norm", "any", "all"),
)
def _reduce(call: Call) -> list[Layout]:
    dims = call.dims() if "dim" in call.args else set(range(len(call.source)))
    if any(is_space(call.source[dim]) for dim in dims):
        raise MixingError(WHOLE_FRAME)
    keep = call.args.get("keepdim", False)
    found = [
        (Factor(1),) if k in dims else dim
        for k, dim in enumerate(call.source)
        if keep or k not in dims
    ]
    return [tuple(found)] * len(call.shapes)


@rule("mm", "addmm", "bmm", "baddbmm")
def _matmul(call: Call) -> list[Layout]:
    factors = [call.args[key] for key in ("mat1", "batch1", "mat2", "batch2") if key in call.args]
    one, other = map(call.known.layout, factors if len(factors) == 2 else (call.first, *factors))
    for dim in (*one[:-2], one[-1], *other[:-1]):
        demand_channels(dim)
    if len(factors) == 2 and call.first.dim() > 1:
        raise MixingError("adds an array that has places of its own")
    return [(*one[:-1], other[-1])]
