"""Packages of bioimage.io: their description becomes a card, or is refused; no code is run."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_files import (
    ARGUMENTS,
    CLASSES,
    description,
    entry,
    exported,
    plain,
    tiny,
    window,
    write_card,
    write_package,
)
from safetensors.torch import save_file

from pipeline.errors import ModelError
from pipeline.nets.model_folder import load_module, model_digest, read_card
from pipeline.nets.normalisation import MeanStd, Percentiles, normalise


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file of each format that packages have, of the same network."""
    folder = tmp_path_factory.mktemp("made")
    for name in ("net.pt", "net.onnx"):
        (folder / name).write_bytes(exported(Path(name).suffix))
    return folder


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_module(path)
    return str(caught.value).replace(str(path), "MODEL")


def package(made: Path, folder: Path, kind: str = "torchscript", **changes: Any) -> Path:
    """A package with weights of one kind."""
    file = made / {"torchscript": "net.pt", "onnx": "net.onnx"}[kind]
    version = {"opset_version": 18} if kind == "onnx" else {"pytorch_version": "2.7"}
    weights = {kind: entry(file, **version)}
    content = description(**{"weights": weights, **changes})
    return write_package(folder / "tiny.zip", content, file)


def with_steps(port: str, key: str, steps: list[dict[str, Any]]) -> dict[str, Any]:
    """A description with other pre- or postprocessing."""
    ports = description()[port]
    ports[0][key] = steps
    return {port: ports}


@pytest.mark.parametrize("kind", ["torchscript", "onnx"])
def test_a_package_says_what_a_card_says(made: Path, tmp_path: Path, kind: str) -> None:
    path = package(made, tmp_path, kind)
    card = read_card(path)
    assert card.model_dump(exclude={"sha256", "description"}, exclude_defaults=True) == {
        "format": 1,
        "name": "Tiny nuclei",
        "architecture": "bioimageio",
        "ndim": 2,
        "channels": ("dna",),
        "heads": (
            {
                "head": "classes",
                "names": ("background", "nucleus", "debris"),
                "background": "background",
            },
        ),
        "normalisation": {"kind": "mean_std", "eps": 1e-5},
        "weights": "tiny.zip",
        "licence": "MIT",
        "authors": ("A. Uthor",),
        "cite": "A paper, https://doi.org/10.1000/xyz123",
        "stride_px": (2, 2),
        **({"halo_px": (8, 8)} if kind == "onnx" else {}),
    }
    with torch.no_grad():
        found = load_module(path)(window())
        assert (found - plain()(window())).abs().max() < 1e-5


def test_a_package_may_be_a_folder_or_in_a_model_folder(made: Path, tmp_path: Path) -> None:
    archive = package(made, tmp_path)
    unpacked = tmp_path / "unpacked"
    with zipfile.ZipFile(archive) as files:
        files.extractall(unpacked)
    wanted = plain()(window())
    with torch.no_grad():
        assert torch.equal(load_module(unpacked)(window()), wanted)
        assert read_card(unpacked).weights == "rdf.yaml"
        model = tmp_path / "model"
        model.mkdir()
        archive.rename(model / "tiny.zip")
        content = {"architecture": "bioimageio", "weights": "tiny.zip", "name": "mine"}
        write_card(model / "card.yaml", **content)
        assert torch.equal(load_module(model)(window()), wanted)
        assert read_card(model).name == "mine"
        assert read_card(model).licence == "MIT"
    first = model_digest(unpacked)
    data = bytearray((unpacked / "net.pt").read_bytes())
    data[100] ^= 1
    (unpacked / "net.pt").write_bytes(data)
    assert model_digest(unpacked) != first
    assert "net.pt: the weights are damaged, or those of another model" in refusal(unpacked)


def test_a_card_beside_a_package_comes_first(made: Path, tmp_path: Path) -> None:
    steps = [{"id": "clip", "kwargs": {"min": 0, "max": 1}}]
    path = package(made, tmp_path, **with_steps("inputs", "preprocessing", steps))
    assert "its preprocessing has the step 'clip', which a card cannot express" in refusal(path)
    card = tmp_path / "tiny.zip.card.yaml"
    card.write_text("{normalisation: {kind: range}, heads: [{head: border}]}")
    assert read_card(path).normalisation.kind == "range"
    assert read_card(path).heads[0].head == "border"
    assert load_module(path)(window()).shape[1] == 3
    card.write_text("{normalisation: {kind: rage}}")
    assert refusal(path).startswith("MODEL.card.yaml:\n  normalisation: Input tag 'rage'")


@pytest.mark.parametrize(
    "step",
    [
        {"id": "zero_mean_unit_variance", "kwargs": {"axes": ["y", "x"], "eps": 1e-4}},
        {
            "id": "scale_range",
            "kwargs": {"axes": ["y", "x"], "min_percentile": 2, "max_percentile": 98},
        },
        {"id": "scale_linear", "kwargs": {"gain": 0.25, "offset": -3.0}},
        {"id": "fixed_zero_mean_unit_variance", "kwargs": {"mean": 101.0, "std": 11.0}},
    ],
)
def test_preprocessing_is_that_of_bioimageio_core(
    made: Path, tmp_path: Path, step: dict[str, Any]
) -> None:
    """The outside library's own steps on the same pixels."""
    from bioimageio.core import Sample
    from bioimageio.core import Tensor as Named
    from bioimageio.core.proc_setup import setup_pre_and_postprocessing
    from bioimageio.spec import load_model_description

    path = package(made, tmp_path, **with_steps("inputs", "preprocessing", [step]))
    pixels = np.random.default_rng(0).integers(0, 255, (1, 1, 64, 96)).astype(np.float32)
    described = load_model_description(path, perform_io_checks=False, format_version="latest")
    named = Named(pixels, dims=("batch", "channel", "y", "x"))
    sample = Sample(members={"raw": named}, stat={}, id="a")
    for operator in setup_pre_and_postprocessing(described, [sample]).pre:
        operator(sample)
    wanted = np.asarray(sample.members["raw"].data)[0]

    found = read_card(path).normalisation
    image = pixels[0]
    if isinstance(found, Percentiles):
        terms = found.terms(*np.percentile(image, (found.low, found.high), axis=(1, 2)))
    elif isinstance(found, MeanStd):
        terms = found.terms(image.mean((1, 2)), image.std((1, 2)))
    else:
        assert found.kind == "fixed"
        terms = found.terms()
    np.testing.assert_allclose(normalise(image, terms), wanted, rtol=1e-5, atol=1e-5)
    assert wanted.std() > 0.01


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            with_steps("inputs", "preprocessing", [{"id": "sigmoid"}]),
            "MODEL: its preprocessing has the step 'sigmoid', which a card cannot express. Read",
        ),
        (
            with_steps(
                "inputs",
                "preprocessing",
                [
                    {"id": "scale_linear", "kwargs": {"gain": 2.0}},
                    {"id": "zero_mean_unit_variance", "kwargs": {"axes": ["y", "x"]}},
                ],
            ),
            "MODEL: its preprocessing has the step 'zero_mean_unit_variance' after another step,",
        ),
        (
            with_steps(
                "outputs", "postprocessing", [{"id": "binarize", "kwargs": {"threshold": 0.5}}]
            ),
            "MODEL: its postprocessing has the step 'binarize', which a card cannot express. Read",
        ),
        ({"name": "x"}, "MODEL: rdf.yaml is not valid:\n  name: "),
        ({"type": "dataset"}, "MODEL: rdf.yaml describes no model (`type: model`)."),
    ],
)
def test_what_a_card_cannot_say_is_refused(
    made: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    assert refusal(package(made, tmp_path, **changes)).startswith(message)


def test_normalising_channels_together_is_refused(made: Path, tmp_path: Path) -> None:
    inputs = description()["inputs"]
    inputs[0]["axes"][1]["channel_names"] = ["dna", "actin"]
    inputs[0]["preprocessing"][0]["kwargs"]["axes"] = ["channel", "y", "x"]
    assert "has the step 'zero_mean_unit_variance', which" in refusal(
        package(made, tmp_path, inputs=inputs)
    )
    inputs[0]["preprocessing"][0]["kwargs"]["axes"] = ["batch", "y", "x"]
    scope = read_card(package(made, tmp_path, inputs=inputs)).normalisation
    assert isinstance(scope, MeanStd)
    assert scope.scope == "dataset"


def test_classes_without_names_are_asked_for(made: Path, tmp_path: Path) -> None:
    outputs = description()["outputs"]
    outputs[0]["axes"][1]["channel_names"] = ["channel0", "channel1", "channel2"]
    assert refusal(package(made, tmp_path, outputs=outputs)) == (
        "MODEL: it does not name its classes: the output channels are channel0, channel1, channel2."
        " State `heads` in a card beside it, tiny.zip.card.yaml."
    )


def test_sizes_that_do_not_fit_are_refused(made: Path, tmp_path: Path) -> None:
    inputs, outputs = description()["inputs"], description()["outputs"]
    inputs[0]["axes"][2]["size"] = 64
    assert "the size of axis y is fixed (64)" in refusal(package(made, tmp_path, inputs=inputs))
    inputs[0]["axes"][2]["size"] = {"min": 65, "step": 2}
    assert "sides of axis y are 65 + n * 2 px; multiples of 2 are used." in refusal(
        package(made, tmp_path, inputs=inputs)
    )
    outputs[0]["axes"][2]["size"]["offset"] = 16
    assert "axis y of the output is not as long as that of the input" in refusal(
        package(made, tmp_path, outputs=outputs)
    )
    inputs, outputs = description()["inputs"], description()["outputs"]
    for axis in outputs[0]["axes"][2:]:
        axis.pop("halo")
    assert refusal(package(made, tmp_path, "onnx", outputs=outputs)) == (
        "MODEL: it states no halo, and the layers of an ONNX file cannot be traced. State "
        "`halo_px` in a card beside it."
    )
    (tmp_path / "tiny.zip.card.yaml").write_text("halo_px: [8, 8]")
    assert read_card(tmp_path / "tiny.zip").halo_px == (8, 8)
    (tmp_path / "tiny.zip.card.yaml").unlink()
    inputs[0]["axes"][1:] = [*inputs[0]["axes"][2:], inputs[0]["axes"][1]]
    assert "the axes of 'raw' are batch, y, x, channel; batch, channel, (z,) y, x are r" in refusal(
        package(made, tmp_path, inputs=inputs)
    )
    assert "2 inputs; one is read." in refusal(
        package(made, tmp_path, inputs=[*description()["inputs"], {**inputs[0], "id": "b"}])
    )


def test_code_of_a_package_is_not_run(made: Path, tmp_path: Path) -> None:
    code = tmp_path / "net.py"
    code.write_text("from pathlib import Path\nPath('harm').touch()\nclass Net: pass\n")
    weights = tmp_path / "net.pth"
    torch.save(plain().state_dict(), weights)
    state = entry(
        weights,
        pytorch_version="2.7",
        architecture={**entry(code), "callable": "Net", "kwargs": {}},
    )
    content = description(weights={"pytorch_state_dict": state})
    path = write_package(tmp_path / "tiny.zip", content, weights, code)
    assert refusal(path) == (
        "MODEL: its weights are pytorch_state_dict; torchscript and onnx are opened. A "
        "pytorch_state_dict comes with Python code, which is not run. Convert it: "
        "`bioimageio add-weights`."
    )


def test_a_package_of_an_architecture_of_ours_is_opened(tmp_path: Path) -> None:
    weights = tmp_path / "net.safetensors"
    save_file(tiny().state_dict(), weights)
    architecture = {
        "callable": "unet",
        "import_from": "pipeline.nets.architectures",
        "kwargs": ARGUMENTS,
    }
    state = entry(weights, pytorch_version="2.7", architecture=architecture)
    content = description(weights={"pytorch_state_dict": state})
    path = write_package(tmp_path / "tiny.zip", content, weights)
    with torch.no_grad():
        assert torch.equal(load_module(path)(window()), tiny()(window()))


def test_files_of_a_package_lie_in_it(made: Path, tmp_path: Path) -> None:
    path = package(made, tmp_path)
    content = description(
        weights={"torchscript": {**entry(made / "net.pt"), "pytorch_version": "2.7"}}
    )
    write_package(path, content)
    assert refusal(path) == "MODEL: there is no file 'net.pt' in the package."
    content["weights"]["torchscript"]["source"] = "https://example.org/net.pt"
    write_package(path, content)
    assert "its weights are at https://example.org/net.pt. Download the whole pac" in refusal(path)
    content["weights"]["torchscript"]["source"] = "../net.pt"
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "net.pt").write_bytes((made / "net.pt").read_bytes())
    (folder / "rdf.yaml").write_text(json.dumps(content))
    assert "lies outside the model's folder" in refusal(folder)
    path.write_bytes(b"junk")
    assert refusal(path).startswith("MODEL: not a zip archive, or damaged (")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "")
    assert refusal(path) == (
        "MODEL: no bioimage.io package: it holds none of rdf.yaml, bioimageio.yaml, model.yaml."
    )


def test_a_package_of_format_0_4_is_read(made: Path, tmp_path: Path) -> None:
    weights = {"torchscript": {**entry(made / "net.pt"), "pytorch_version": "2.7"}}
    old = description(weights=weights) | {
        "format_version": "0.4.10",
        "timestamp": "2024-01-01T00:00:00",
        "test_inputs": ["in.npy"],
        "test_outputs": ["out.npy"],
        "inputs": [
            {
                "name": "raw",
                "axes": "bcyx",
                "data_type": "float32",
                "shape": {"min": [1, 1, 64, 64], "step": [0, 0, 2, 2]},
                "preprocessing": [
                    {
                        "name": "scale_range",
                        "kwargs": {
                            "axes": "yx",
                            "min_percentile": 1,
                            "max_percentile": 99.8,
                            "mode": "per_sample",
                        },
                    }
                ],
            }
        ],
        "outputs": [
            {
                "name": "out",
                "axes": "bcyx",
                "data_type": "float32",
                "halo": [0, 0, 8, 8],
                "shape": {
                    "reference_tensor": "raw",
                    "scale": [1, 1, 1, 1],
                    "offset": [0, 1, 0, 0],
                },
            }
        ],
    }
    path = write_package(tmp_path / "tiny.zip", old, made / "net.pt")
    assert "it does not name its classes" in refusal(path)  # format 0.4 has no names
    (tmp_path / "tiny.zip.card.yaml").write_text(json.dumps({"heads": [CLASSES]}))
    card = read_card(path)
    assert card.normalisation == Percentiles(kind="percentiles", low=1, high=99.8)
    assert card.stride_px == (2, 2)
    with torch.no_grad():
        assert torch.equal(load_module(path)(window()), plain()(window()))
