"""Networks: any tiling gives the same bits, and what one pass over the whole frame says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs tilewright[nets]")

from skimage import io  # noqa: E402
from torch import nn  # noqa: E402

from pipeline.conformance import check_image  # noqa: E402
from pipeline.nets import evaluation  # noqa: E402
from pipeline.nets.architectures import ARCHITECTURES, build  # noqa: E402
from pipeline.nets.card import parse_card  # noqa: E402
from pipeline.nets.model_folder import load_module, write_model  # noqa: E402
from pipeline.trial import Cut, Result, run_untiled  # noqa: E402
from tests.nets.models import card_content, tiny_model  # noqa: E402
from tests.nets.whole import (  # noqa: E402
    engine_outputs,
    extended,
    normalised,
    one_pass,
    picture,
    recipe_of,
)

DATA = Path(__file__).parents[1] / "data"
NUCLEI = "large_nuclei/3ca8181367fc.png"
OTHER_NUCLEI = "large_nuclei/28d33efef218.png"

#: How far outputs of blocks may be from those of one pass, for the largest output.
RELATIVE = 2e-5

#: Architecture, arguments, frame, side of blocks. Where halos are long, so are the frames.
CASES: dict[str, tuple[str, dict[str, Any], tuple[int, ...], int]] = {
    "unet-batch": ("unet", {}, (117, 130), 32),
    "unet-plain": ("unet", {"norm": "none", "depth": 3}, (150, 173), 32),
    "unet-instance": ("unet", {"norm": "instance", "depth": 1}, (117, 130), 48),
    "unet-group": ("unet", {"norm": "group", "base_channels": 8, "depth": 1}, (117, 130), 32),
    "unet-3d": ("unet", {"dims": 3, "base_channels": 2}, (9, 63, 66), 16),
    "unet-3d-instance": (
        "unet",
        {"dims": 3, "base_channels": 2, "depth": 1, "norm": "instance"},
        (5, 40, 43),
        16,
    ),
    "fc_densenet": ("fc_densenet", {}, (117, 130), 32),
    "fcn": ("fcn", {}, (41, 707), 128),
    "segnet": ("segnet", {}, (41, 707), 128),
    "deeplab": ("deeplab", {}, (41, 707), 128),
    "deeplab-near": ("deeplab", {"image_pooling": False}, (41, 707), 128),
    "pspnet": ("pspnet", {}, (41, 707), 128),
    "refinenet": ("refinenet", {}, (37, 2300), 512),
}
#: Off the blocks, some of two blocks and some of none, in any order.
CUTS = {2: Cut((45, 90), order=2, batch_tiles=3), 3: Cut((5, 45, 29), order=1)}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def model_of(case: str) -> tuple[str, np.ndarray, dict[str, Any]]:
    """A model, its image, and the rest of its recipe."""
    architecture, arguments, shape, block = CASES[case]
    model = tiny_model(architecture, ndim=len(shape), arguments=arguments)
    return model, picture(shape), {"dims": f"{len(shape)}d", "block_px": block}


def test_every_architecture_is_here() -> None:
    assert {name for name, *_ in CASES.values()} == set(ARCHITECTURES)


@pytest.mark.parametrize("case", CASES)
def test_tiles_say_what_one_pass_says(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "CHECK_EVERY", 1)
    model, image, fields = model_of(case)
    recipe = recipe_of(model, **fields)
    whole = run_untiled(recipe, image, tmp_path)
    result, found = engine_outputs(recipe, image, CUTS[len(image.shape)], tmp_path)
    assert (result.digest, result.table_digest) == (whole.digest, whole.table_digest)
    halo, block = result.certificate["halo_px"][0], result.certificate["block_px"]
    assert any(b + h < n for b, h, n in zip(block, halo, image.shape, strict=True))
    # Where two values of a pool are equal but for rounding, max unpooling may choose the other one.
    unpools = case == "segnet"
    assert ("farther_pixels" in result.certificate) == unpools
    jumping_px = image.size // 100 if unpools else 0
    check_against_one_pass(result, found, one_pass(model, image), image.size // 50, jumping_px)


def check_against_one_pass(
    result: Result,
    found: np.ndarray,
    wanted: np.ndarray,
    other_px: int,
    jumping_px: int = 0,
) -> None:
    """Outputs (K, \\*S) are as near as floats allow, and classes differ only where they must.

    `other_px`: at most so many pixels are of another class. `jumping_px`: at most so many have
    outputs that are farther away.
    """
    difference = np.abs(found - wanted).max(axis=0)
    limit = RELATIVE * float(np.abs(wanted).max())
    jumps = difference > limit
    assert np.count_nonzero(jumps) <= jumping_px
    certificate = result.certificate
    assert certificate["epsilon"] <= 2 * limit  # both windows are within one
    if jumping_px:
        farther = np.count_nonzero(difference > 2 * certificate["epsilon"]) / difference.size
        assert farther <= 0.01 + certificate["farther_pixels"] / certificate["checked_pixels"]
    apart = float(difference[~jumps].max())
    classes = result.labels[0].reshape(wanted.shape[1:])
    best = np.sort(wanted, axis=0)[-2:]
    certain = (best[1] - best[0] > 2 * apart) & ~jumps
    expected = wanted.argmax(axis=0) + 1
    assert np.array_equal(classes[certain], expected[certain])
    # Random outputs are zeros in many places, where no class is best.
    assert certain.mean() > 0.25
    assert np.count_nonzero(classes != expected) <= other_px
    assert len(np.unique(classes)) > 1


def test_a_frame_of_one_pixel_has_norms(tmp_path: Path) -> None:
    model = tiny_model(arguments={"norm": "instance"})
    for shape in [(1, 1), (1, 9)]:
        recipe = recipe_of(model, block_px=16, output="probabilities")
        found = check_image(recipe, picture((9, 9))[: shape[0], : shape[1]], [Cut(2)], tmp_path)
        assert isinstance(found, Result)
        assert found.probabilities is not None
        assert np.isfinite(found.probabilities).all()


# --- A network that has learnt something --------------------------------------------------------


@pytest.fixture(scope="module", params=["batch", "instance"])
def trained(request: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A U-Net that tells nuclei from background, after some seconds with two images."""
    torch.manual_seed(0)
    content = card_content("unet", {"depth": 2, "base_channels": 6, "norm": request.param})
    card = parse_card(content | {"heads": [TWO]}, "card")
    network = build("unet", 1, 2, card.arguments)
    steps = torch.optim.Adam(network.parameters(), lr=1e-2)
    pairs = [example(name) for name in (OTHER_NUCLEI, "crowded/4d4ebfcae437.png")]
    generator = torch.Generator().manual_seed(1)
    for step in range(40):
        image, truth = pairs[step % 2]
        y, x = (int(torch.randint(0, n - 127, (1,), generator=generator)) for n in image.shape[2:])
        cut = (..., slice(y, y + 128), slice(x, x + 128))
        loss = nn.functional.cross_entropy(network(image[cut]), truth[cut])
        steps.zero_grad()
        loss.backward()
        steps.step()
    folder = tmp_path_factory.mktemp("trained") / "model"
    write_model(folder, network.eval(), card)
    return str(folder)


TWO = {"head": "classes", "names": ["background", "nucleus"], "background": "background"}


def example(name: str) -> tuple[Any, Any]:
    """An image as a batch, and where its nuclei are."""
    image, truth = grey(name), io.imread(DATA / "truth" / name)
    return torch.from_numpy(normalised(image))[None, None], torch.from_numpy(truth > 0)[None].long()


def grey(name: str) -> np.ndarray:
    found: np.ndarray = io.imread(DATA / "demo" / name)
    return found[..., 0] if found.ndim == 3 else found


@pytest.fixture(scope="module")
def nuclei() -> np.ndarray:
    """An image that was not trained with."""
    return grey(NUCLEI)[:201, :250]


def test_a_trained_network_is_exact(trained: str, nuclei: np.ndarray, tmp_path: Path) -> None:
    recipe = recipe_of(trained, block_px=64)
    whole = check_image(recipe, nuclei, [Cut((137, 61), order=1)], tmp_path)
    assert isinstance(whole, Result)
    result, found = engine_outputs(recipe, nuclei, Cut((70, 81), 3), tmp_path)
    assert result.digest == whole.digest
    check_against_one_pass(result, found, one_pass(trained, nuclei), 5)
    truth = io.imread(DATA / "truth" / NUCLEI)[:201, :250] > 0
    nucleus = result.labels.reshape(truth.shape) == 2
    assert (nucleus & truth).sum() / (nucleus | truth).sum() > 0.6  # it did learn


# --- What others do ----------------------------------------------------------------------------


def in_tiles(
    model: str, image: np.ndarray, side: int, halo: int, *, own_percentiles: bool = False
) -> np.ndarray:
    """Classes (\\*S) of tiles that each are one pass: the naive way."""
    module, pixels = load_module(Path(model)), normalised(image)
    stride = 4
    found = np.zeros(image.shape, np.int64)
    for y in range(0, image.shape[0], side):
        for x in range(0, image.shape[1], side):
            window = tuple(slice(max(0, p - halo), p + side + halo) for p in (y, x))
            seen = normalised(image[window]) if own_percentiles else pixels[window]
            with torch.no_grad():
                out = module(extended(seen, (stride, stride)))[0].argmax(dim=0).numpy()
            core = out[y - window[0].start :, x - window[1].start :][:side, :side]
            place = found[y : y + side, x : x + side]
            place[:] = core[: place.shape[0], : place.shape[1]]
    return found


def wrong_px(model: str, image: np.ndarray, **tiles: Any) -> int:
    return int((in_tiles(model, image, **tiles) != one_pass(model, image).argmax(axis=0)).sum())


def test_naive_tiles_are_wrong(trained: str, nuclei: np.ndarray, tmp_path: Path) -> None:
    wrong = {
        "no halo": wrong_px(trained, nuclei, side=64, halo=0),
        "short halo": wrong_px(trained, nuclei, side=64, halo=4),
        "off the stride": wrong_px(trained, nuclei, side=63, halo=24),
        "own percentiles": wrong_px(trained, nuclei, side=64, halo=24, own_percentiles=True),
    }
    assert min(wrong.values()) > 0, wrong
    right = wrong_px(trained, nuclei, side=64, halo=24)
    has_statistics = "norm: instance" in (Path(trained) / "card.yaml").read_text()
    # Statistics of a tile are not those of the frame; without them, halo and stride are enough.
    assert (right > 20) == has_statistics
    ours = run_untiled(recipe_of(trained, block_px=64), nuclei, tmp_path).labels.reshape(
        nuclei.shape
    )
    assert np.count_nonzero(ours != one_pass(trained, nuclei).argmax(axis=0) + 1) <= 2
    print(f"px of {nuclei.size} that naive tiles get wrong: {wrong}, aligned with halo {right}")


@pytest.mark.parametrize("case", ["deeplab", "pspnet"])
def test_pooling_over_tiles_is_wrong(case: str) -> None:
    model, image, _ = model_of(case)
    pixels, module = normalised(image), load_module(Path(model))
    with torch.no_grad():
        left = module(extended(pixels[:, :504], (8, 8)))[0, :, : len(image), :200]
    wanted = one_pass(model, image)[:, :, :200]
    # 304 px of halo are enough without pooling: 240 and 216.
    assert np.abs(left.numpy() - wanted).max() > 100 * RELATIVE * np.abs(wanted).max()
