"""Cards: what is wrong is said with key, value and what would be right; no torch is needed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_files import CLASSES, card_content

from pipeline.errors import MethodError, ModelError
from pipeline.nets.card import check_channels, parse_card
from pipeline.nets.normalisation import Fixed, MeanStd, Percentiles, Range, normalise
from pipeline.nets.plain_yaml import MAX_BYTES, read_yaml


def refusal(**changes: Any) -> str:
    with pytest.raises(ModelError) as caught:
        parse_card(card_content(**changes), "x/card.yaml")
    first, *lines = str(caught.value).splitlines()
    assert first == "x/card.yaml:"
    assert len(lines) == 1
    return lines[0].strip()


def test_heads_take_their_channels_in_order() -> None:
    heads = [{"head": "flow"}, CLASSES, {"head": "border"}, {"head": "distance"}]
    card = parse_card(card_content(heads=heads), "")
    assert card.output_channels == 2 + 3 + 3 + 1
    assert card.head_slices() == {
        "flow": slice(0, 2),
        "classes": slice(2, 5),
        "border": slice(5, 8),
        "distance": slice(8, 9),
    }
    assert parse_card(card_content(heads=heads, ndim=3), "").output_channels == 10


def test_a_card_says_again_what_it_means() -> None:
    card = parse_card(card_content(scores={"dice": 0.9}, pixel_size_um=[0.5, 0.25]), "")
    assert parse_card(card.model_dump(mode="json"), "") == card


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format: Input should be 1 (given: 2)."),
        ({"ndim": 4}, "ndim: Input should be 2 or 3 (given: 4)."),
        ({"name": None}, "name: missing."),
        ({"chanels": ["a"]}, "chanels: unknown key (did you mean 'channels'?). Valid keys: archi"),
        (
            {"heads": [{**CLASSES, "nams": []}]},
            "heads.0.classes.nams: unknown key (did you mean 'names'?). Valid keys: activation, ba",
        ),
        (
            {"normalisation": {"kind": "percentiles", "hihg": 99}},
            "normalisation.percentiles.hihg: unknown key (did you mean 'high'?). Valid keys: eps, ",
        ),
        (
            {"heads": [{"head": "classes", "background": None}]},
            "heads.0.classes.names: missing.",
        ),
        (
            {"heads": [{"head": "classes", "names": ["a", "b"]}]},
            "heads.0.classes.background: missing.",
        ),
        (
            {"heads": [{**CLASSES, "names": ["background"]}]},
            "heads.0.classes.names: Tuple should have at least 2 items after validation, not 1",
        ),
        (
            {"heads": [{**CLASSES, "names": ["a", "b", "a"]}]},
            "heads.0.classes.names: class 'a' is named twice.",
        ),
        (
            {"heads": [{**CLASSES, "background": "sky"}]},
            "heads.0.classes: background: 'sky' is none of the classes (background, nucleus, debr",
        ),
        (
            {"heads": [{**CLASSES, "things": ["background"]}]},
            "heads.0.classes: things: 'background' is no class of objects",
        ),
        (
            {"heads": [{**CLASSES, "colors": [[1, 2, 3]]}]},
            "heads.0.classes: colors: 1 for 3 classes.",
        ),
        (
            {"heads": [{"head": "distance", "activation": "sigmoid"}]},
            "heads.0.distance: activation: a sigmoid gives 0..1, which is `unit: normalised`",
        ),
        (
            {"heads": [{"head": "boundary"}]},
            "heads.0: Input tag 'boundary' found using 'head' does not match any of the expected",
        ),
        ({"heads": [CLASSES, CLASSES]}, "heads: there are several heads 'classes'; one of a kind"),
        ({"heads": []}, "heads: there is none; name one, for example {head: border}."),
        ({"halo_px": [8]}, "halo_px: 1 numbers, and the model has 2 axes."),
        (
            {"normalisation": {"kind": "fixed", "mean": [0, 0], "std": [1, 1]}},
            "normalisation: mean and std of 2 channels, and the model has 1.",
        ),
        (
            {"normalisation": {"kind": "fixed", "mean": [0, 0], "std": [1]}},
            "normalisation.fixed: 2 numbers in mean, 1 in std.",
        ),
        (
            {"normalisation": {"kind": "percentiles", "low": 99, "high": 1}},
            "normalisation.percentiles: low (99) must be less than high (1).",
        ),
        ({"sha256": "abc"}, "sha256: String should match pattern"),
        ({"scores": {"dice": float("nan")}}, "scores.dice: Input should be a finite number"),
        (
            {"architecture": "onnx"},
            "halo_px: missing. The layers of an ONNX file cannot be traced: state it, for example "
            "`halo_px: [16, 16]`.",
        ),
        ({"architecture": "onnx", "halo_px": [8, 8]}, "stride_px: missing. The layers of an ONNX"),
    ],
)
def test_what_is_wrong_is_said(changes: dict[str, Any], message: str) -> None:
    assert refusal(**changes).startswith(message)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ModelError, match=r"(?s)format: .*\n  ndim: .*\n  chanels: unknown"):
        parse_card(card_content(format=3, ndim=1, chanels=1), "card.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "a mapping of keys is wanted, not list."),
        ("", "a mapping of keys is wanted, not NoneType."),
        ("a: [1, 2\n", "not plain YAML: while parsing a flow sequence"),
        ("a: !!python/object/apply:os.system ['true']\n", "not plain YAML: could not determine a"),
        ("a: &x [1]\nb: *x\n", "YAML aliases (*name) are not read. Write the value out."),
        ("a: 2026-13-45\n", "not plain YAML: month must be in 1..12"),
        ("[" * 500_000, "more than 50 brackets within each other."),
    ],
)
def test_only_plain_yaml_is_read(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "card.yaml"
    path.write_text(text)
    with pytest.raises(ModelError, match=re.escape(f"{path}: {message}")):
        read_yaml(path)


def test_a_card_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    path = tmp_path / "card.yaml"
    with pytest.raises(ModelError, match=r"the card cannot be read \(.*No such file"):
        read_yaml(path)
    path.write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(ModelError, match="not plain YAML: 'utf-8' codec can't decode"):
        read_yaml(path)
    path.write_text("#" * (MAX_BYTES + 1))
    with pytest.raises(ModelError, match=r"more than 1,048,576 bytes, which is no card\."):
        read_yaml(path)


def test_an_image_has_the_channels_of_the_model() -> None:
    card = parse_card(card_content(channels=["dna", "actin"]), "")
    check_channels(card, 2, "a.tif")
    with pytest.raises(MethodError) as caught:
        check_channels(card, 1, "a.tif")
    assert str(caught.value) == (
        "a.tif: 1 selected channel, and the model 'tiny' takes 2 (dna, actin). Choose them with "
        "`source.channels`, in this order."
    )


def test_normalisation_is_the_formula_that_is_stated() -> None:
    pixels = np.arange(2 * 3 * 4, dtype=np.uint16).reshape(2, 3, 4) ** 2
    low, high = np.percentile(pixels, (1, 99), axis=(1, 2))
    found = normalise(pixels, Percentiles(kind="percentiles", low=1, high=99).terms(low, high))
    wanted = (pixels - low[:, None, None]) / (high - low + 1e-6)[:, None, None]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    assert found.dtype == np.float32

    mean, std = pixels.mean((1, 2)), pixels.std((1, 2))
    found = normalise(pixels, MeanStd(kind="mean_std").terms(mean, std))
    np.testing.assert_allclose(found.mean((1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(found.std((1, 2)), 1, atol=1e-5)

    scale = Range(kind="range")
    assert normalise(np.full((1, 1, 1), 255, np.uint8), scale.terms("uint8", 1)).item() == 1
    assert normalise(np.full((1, 1, 1), 65535, np.uint16), scale.terms("uint16", 1)).item() == 1
    assert normalise(np.full((1, 1, 1), 0.25, np.float32), scale.terms("float32", 1)).item() == 0.25

    fixed = Fixed(kind="fixed", mean=(1.0, 2.0), std=(2.0, 4.0)).terms()
    assert normalise(np.full((2, 1, 1), 6, np.uint8), fixed).ravel().tolist() == [2.5, 1.0]


def test_a_constant_image_stays_finite() -> None:
    constant = np.full((1, 2, 2), 7, np.uint8)
    no_eps = Percentiles(kind="percentiles", eps=0).terms(np.array([7.0]), np.array([7.0]))
    assert not normalise(constant, no_eps).any()


def test_each_pixel_is_normalised_by_itself() -> None:
    pixels = np.random.default_rng(0).integers(0, 4000, (2, 40, 50)).astype(np.uint16)
    terms = MeanStd(kind="mean_std").terms([900.5, 17.0], [123.4, 5.6])
    whole = normalise(pixels, terms)
    assert np.array_equal(normalise(pixels[:, 7:23, 11:], terms), whole[:, 7:23, 11:])


def test_cards_need_no_torch() -> None:
    code = (
        "import sys; import pipeline.nets.card, pipeline.nets.model_folder;"
        "heavy = {'torch', 'onnxruntime', 'bioimageio', 'safetensors'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
