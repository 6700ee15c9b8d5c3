"""`tilewright model`: what a model says of itself, and whether it opens."""

from __future__ import annotations

from pipeline.nets.card import ModelCard
from pipeline.nets.heads import ClassesHead, Head, ObjectsHead
from pipeline.nets.model_folder import load_module, package_of, read_card
from pipeline.nets.places import SUFFIXES, card_path, file_sha256, find_model


def model_text(name_or_path: str) -> str:
    """Facts of a model, one a line.

    The model is opened as a run would open it, so what is printed has been checked.

    Raises
    ------
    ModelError
        If it cannot be used.
    """
    path = find_model(name_or_path)
    card = read_card(path)
    module = load_module(path)
    count = sum(weight.numel() for weight in module.parameters())
    facts = {
        "model": f"{card.name} ({path})",
        "": card.description,
        "architecture": _architecture(card),
        "parameters": f"{count:,}" if count else "unknown: the file keeps them to itself",
        "input": f"{', '.join(card.channels)} ({card.ndim}D)",
        "normalisation": _normalisation(card),
        "output": "; ".join(_head(head, card.ndim) for head in card.heads),
        "pixel size": _sizes(card.pixel_size_um, "µm"),
        "objects": f"{card.object_px[0]:g} to {card.object_px[1]:g} px" if card.object_px else "",
        "halo": _sizes(card.halo_px, "px") or _unmeasured(card),
        "stride": _sizes(card.stride_px, "px") or _unmeasured(card),
        "licence": card.licence or "not stated",
        "training data": card.training_data or "",
        "authors": ", ".join(card.authors),
        "cite": card.cite or "",
        "scores": ", ".join(f"{name} {score:.4g}" for name, score in card.scores.items()),
        "sha256": f"{card.sha256} (verified)",
    }
    return "\n".join(f"{name + ':' if name else '':15}{x}" for name, x in facts.items() if x)


def card_to_write(name_or_path: str) -> str | None:
    """A card to fill in for a file of another program that has none; None for other models."""
    path = find_model(name_or_path)
    if path.is_dir() or package_of(path) is not None or card_path(path).is_file():
        return None
    kind = SUFFIXES[path.suffix]
    traced = (
        "halo_px: [0, 0]                # how far a pixel looks; the file cannot be traced\n"
        "stride_px: [1, 1]              # windows have sides of multiples of it\n"
    )
    return (
        f"{path}: no card. Write {card_path(path)}, with what is true of it:\n\n"
        "format: 1\n"
        f"name: {path.stem}\n"
        f"architecture: {kind}\n"
        "ndim: 2                        # 3 for volumes\n"
        "channels: [image]              # names of the input channels\n"
        "heads:                         # what the output channels are\n"
        "  - {head: classes, names: [background, object], background: background,\n"
        "     activation: softmax}      # none if the file gives probabilities\n"
        "normalisation: {kind: percentiles, low: 1, high: 99.8}\n"
        f"{traced if kind == 'onnx' else ''}"
        f"weights: {path.name}\n"
        f"sha256: {file_sha256(path)}"
    )


def _architecture(card: ModelCard) -> str:
    arguments = ", ".join(f"{key} {value}" for key, value in card.arguments.items())
    return f"{card.architecture} ({arguments})" if arguments else card.architecture


def _normalisation(card: ModelCard) -> str:
    facts = card.normalisation.model_dump(exclude={"kind"})
    shown = ", ".join(
        f"{key} {' '.join(map(str, x)) if isinstance(x, tuple) else x}" for key, x in facts.items()
    )
    return f"{card.normalisation.kind} ({shown})" if shown else card.normalisation.kind


def _unmeasured(card: ModelCard) -> str:
    # A detector's windows follow from the recipe.
    return "" if card.is_detector else "measured when the model is used"


def _head(head: Head, ndim: int) -> str:
    if isinstance(head, ClassesHead):
        things = f"; things {', '.join(head.things)}" if head.things else ""
        return f"classes {', '.join(head.names)} ({head.activation}{things})"
    if isinstance(head, ObjectsHead):
        return f"objects: {', '.join(head.names)}"
    count = head.channel_count(ndim)
    return f"{head.head} ({count} channel{'s' * (count != 1)})"


def _sizes(value: float | tuple[float, ...] | None, unit: str) -> str:
    if value is None:
        return ""
    numbers = value if isinstance(value, tuple) else (value,)
    return f"{' x '.join(f'{number:g}' for number in numbers)} {unit}"
