"""The card of a bioimage.io package, translated from its description. Needs bioimageio.spec.

What a card cannot say is refused, not left out: an image that is normalised otherwise than the
network was trained on gives labels that look right.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bioimageio.spec.model import v0_5

from pipeline.errors import ModelError
from pipeline.nets.bioimageio_package import Package

_BACKGROUND = {"background", "bg"}


def card_content(package: Package, given: Mapping[str, Any]) -> dict[str, Any]:
    """What the package says, as the keys of a card; those that the user's card gives win.

    Raises
    ------
    ModelError
        Naming the step, axis or statement that a card cannot express.
    """
    described, where = package.description, str(package.path)
    for ports, what in ((described.inputs, "inputs"), (described.outputs, "outputs")):
        if len(ports) != 1:
            raise ModelError(f"{where}: {len(ports)} {what}; one is read.")
    source, target = described.inputs[0], described.outputs[0]
    axes = _space_axes(source, where)
    _space_axes(target, where)
    channels = [str(name) for name in source.axes[1].channel_names]
    weights = package.weights()
    content: dict[str, Any] = {
        "format": 1,
        "name": described.name,
        "description": described.description or "",
        "architecture": "bioimageio",
        "ndim": len(axes),
        "channels": channels,
        "stride_px": _strides(axes, where),
        "licence": None if described.license is None else str(described.license),
        "authors": [author.name for author in described.authors or ()],
        "cite": "; ".join(_citation(entry) for entry in described.cite or ()) or None,
        "pixel_size_um": _pixel_size(axes),
    }
    halos = _halos(source, target, where)
    if weights.kind == "onnx":
        content["halo_px"] = halos
    if "normalisation" not in given:
        content["normalisation"] = normalisation(source, len(channels), where)
    activation = _activation(target, where)
    if "heads" not in given:
        content["heads"] = [_classes(target, activation, where)]
    content.update(given)
    if weights.kind == "onnx" and content["halo_px"] is None:
        raise ModelError(
            f"{where}: it states no halo, and the layers of an ONNX file cannot be traced. State "
            "`halo_px` in a card beside it."
        )
    return content


def normalisation(source: Any, channels: int, where: str) -> dict[str, Any]:
    """Translate `preprocessing`: at most one step that scales, in float.

    Raises
    ------
    ModelError
        Naming the step that a card cannot express.
    """
    found: dict[str, Any] | None = None
    for step in source.preprocessing:
        if step.id == "ensure_dtype" and step.kwargs.dtype in {"float32", "float64"}:
            continue
        translated = _translate(step, channels)
        if translated is None or found is not None:
            second = " after another step" * (found is not None)
            raise ModelError(
                f"{where}: its preprocessing has the step {step.id!r}{second}, which a card cannot "
                "express. Read are zero_mean_unit_variance and scale_range of each channel, "
                "fixed_zero_mean_unit_variance and scale_linear, one of them."
            )
        found = translated
    return found or {"kind": "fixed", "mean": [0.0] * channels, "std": [1.0] * channels}


def _translate(step: Any, channels: int) -> dict[str, Any] | None:
    """One step of the preprocessing; None where a card cannot express it."""
    kwargs = step.kwargs
    if step.id in {"zero_mean_unit_variance", "scale_range"}:
        axes = None if kwargs.axes is None else {str(axis) for axis in kwargs.axes}
        jointly = axes is None or "channel" in axes
        space = axes is None or axes - {"batch", "channel"} in ({"y", "x"}, {"z", "y", "x"})
        if (jointly and channels > 1) or not space:
            return None
        scope = "dataset" if axes is None or "batch" in axes else "image"
        if step.id == "zero_mean_unit_variance":
            return {"kind": "mean_std", "eps": kwargs.eps, "scope": scope}
        if kwargs.reference_tensor is not None:
            return None
        low, high = kwargs.min_percentile, kwargs.max_percentile
        return {"kind": "percentiles", "low": low, "high": high, "eps": kwargs.eps, "scope": scope}
    if step.id == "fixed_zero_mean_unit_variance":
        return _fixed(kwargs.mean, kwargs.std, kwargs, channels)
    if step.id == "scale_linear":
        gains, offsets = _listed(kwargs.gain, channels), _listed(kwargs.offset, channels)
        if len(gains) != len(offsets) or min(gains) <= 0:
            return None
        # gain * x + offset = (x - mean) / std
        means = [-offset / gain for gain, offset in zip(gains, offsets, strict=True)]
        return _fixed(means, [1 / gain for gain in gains], kwargs, channels)
    return None


def _fixed(mean: Any, std: Any, kwargs: Any, channels: int) -> dict[str, Any] | None:
    if str(getattr(kwargs, "axis", None) or "channel") != "channel":
        return None
    return {"kind": "fixed", "mean": _listed(mean, channels), "std": _listed(std, channels)}


def _listed(value: float | list[float], channels: int) -> list[float]:
    return [*value] if isinstance(value, list) else [value] * channels


def _space_axes(port: Any, where: str) -> list[Any]:
    """The axes y, x or z, y, x of an input or output."""
    order = [axis.type if axis.type in {"batch", "channel"} else str(axis.id) for axis in port.axes]
    if order not in (["batch", "channel", "y", "x"], ["batch", "channel", "z", "y", "x"]):
        raise ModelError(
            f"{where}: the axes of {port.id!r} are {', '.join(order)}; batch, channel, (z,) y, x "
            "are read."
        )
    return list(port.axes[2:])


def _strides(axes: list[Any], where: str) -> list[int]:
    """Multiples that a window's sides may grow by."""
    for axis in axes:
        if not isinstance(axis.size, v0_5.ParameterizedSize):
            raise ModelError(
                f"{where}: the size of axis {axis.id} is fixed ({axis.size!r}); windows have many. "
                "Use weights that take any size."
            )
        if axis.size.min % axis.size.step:
            raise ModelError(
                f"{where}: sides of axis {axis.id} are {axis.size.min} + n * {axis.size.step} px; "
                f"multiples of {axis.size.step} are used."
            )
    return [axis.size.step for axis in axes]


def _halos(source: Any, target: Any, where: str) -> list[int] | None:
    """Pixels that the description says to cut away; None where it states none."""
    halos: list[int] = []
    stated = True
    for taken, given in zip(source.axes[2:], target.axes[2:], strict=True):
        reference = given.size
        same = isinstance(reference, v0_5.SizeReference) and reference.offset == 0
        if not same or taken.scale != given.scale:
            raise ModelError(
                f"{where}: axis {given.id} of the output is not as long as that of the input; "
                "networks that crop or scale are not read."
            )
        stated &= hasattr(given, "halo")
        halos.append(getattr(given, "halo", 0))
    return halos if stated else None


def _pixel_size(axes: list[Any]) -> list[float] | None:
    sizes = [axis.scale for axis in axes if axis.unit == "micrometer"]
    return sizes if len(sizes) == len(axes) else None


def _citation(entry: Any) -> str:
    doi = f", https://doi.org/{entry.doi}" if entry.doi else ""
    return f"{entry.text}{doi}"


def _activation(target: Any, where: str) -> str:
    """What the postprocessing makes of the channels."""
    found = "none"
    for step in target.postprocessing:
        if step.id == "ensure_dtype" and step.kwargs.dtype in {"float32", "float64"}:
            continue
        if step.id not in {"softmax", "sigmoid"} or found != "none":
            raise ModelError(
                f"{where}: its postprocessing has the step {step.id!r}, which a card cannot "
                "express. Read are sigmoid and softmax, one of them."
            )
        found = step.id
    return found


def _classes(target: Any, activation: str, where: str) -> dict[str, Any]:
    """A head of classes after the names of the output channels."""
    names = [str(name) for name in target.axes[1].channel_names]
    guessed = [f"channel{i}" for i in range(len(names))]
    if len(names) < 2 or names == guessed:
        raise ModelError(
            f"{where}: it does not name its classes: the output channels are {', '.join(names)}. "
            f"State `heads` in a card beside it, {Path(where).name}.card.yaml."
        )
    background = next((name for name in names if name.lower() in _BACKGROUND), None)
    return {"head": "classes", "names": names, "background": background, "activation": activation}
