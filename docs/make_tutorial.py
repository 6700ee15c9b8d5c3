"""Draw docs/images/tutorial, what the recipes of docs/tutorial-regions.md make: `make pictures`."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from skimage import io
from skimage.segmentation import find_boundaries

from pipeline.recipe import parse_recipe
from pipeline.report.thumbnails import contrast
from pipeline.trial import Cut, Result, run_tiled

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "tutorial-regions.md"
TISSUE = ROOT / "tests" / "data" / "histology" / "4590d7d47f52.png"
CELLS = ROOT / "tests" / "data" / "demo" / "large_nuclei" / "3ca8181367fc.png"
TRUTH = ROOT / "tests" / "data" / "truth"
SIDE = 96
#: The part of the tissue where the graph is drawn: y, x and sides, in px.
PART = (24, 150, 110, 150)
#: Colours of outlines: on tissue, on grey, and of annotations.
GREEN, CYAN, YELLOW = (0, 200, 60), (0, 229, 255), (255, 200, 0)
#: Colours of edges, from similar to different superpixels.
SCALE = np.array([[255, 205, 0], [225, 60, 20], [15, 15, 15]])
#: A distance of colours that is drawn as the largest one.
FARTHEST = 40.0
GAP_PX = 8


def recipes() -> dict[str, dict[str, Any]]:
    """The recipes of the page, by the file that their first line names."""
    blocks = re.findall(r"```yaml\n# (\S+?\.yaml)[^\n]*\n(.*?)```", PAGE.read_text(), re.DOTALL)
    found = {name: yaml.safe_load(text) for name, text in blocks}
    for name in ("threshold.yaml", "cut.yaml"):
        found[name] = {**found["tissue.yaml"], **found[name]}
    return found


def run(name: str, image: np.ndarray) -> Result:
    recipe = parse_recipe(recipes()[name], name)
    with tempfile.TemporaryDirectory() as folder:
        return run_tiled(recipe, image, Path(folder), Cut(SIDE))


def main() -> None:
    folder = ROOT / "docs" / "images" / "tutorial"
    folder.mkdir(exist_ok=True)
    for name, picture in {**tissue_pictures(), **cell_pictures()}.items():
        options = {"quality": 80} if name.endswith("jpg") else {"optimize": True}
        picture.save(folder / name, **options)


def tissue_pictures() -> dict[str, Image.Image]:
    pixels = io.imread(TISSUE)[..., :3]
    image = np.moveaxis(pixels, -1, 0)[:, None]
    whole = run("tissue.yaml", image)
    assert whole.graph is not None
    assert whole.fragments is not None
    fragments = whole.fragments[0, 0]
    truth = io.imread(TRUTH / "histology" / TISSUE.name)
    stages = [np.append(0, whole.graph.regions_at(v))[fragments] for v in (10, 20, 30)]
    ways = [run("threshold.yaml", image), whole, run("cut.yaml", image)]
    names = ("threshold, value 15", "hierarchical, value 30", "normalised cut, value 0.6")
    return {
        "tissue.jpg": beside([scaled(pixels, 2), outlined(pixels, truth, 2, YELLOW, 2)]),
        "superpixels.jpg": outlined(pixels, fragments, 3, GREEN),
        "graph.png": graph_picture(pixels, whole).quantize(128),
        "values.jpg": beside(
            [
                titled(f"value {v}", filled(pixels, s))
                for v, s in zip((10, 20, 30), stages, strict=True)
            ]
        ),
        "ways.jpg": beside(
            [titled(n, filled(pixels, w.labels[0, 0])) for n, w in zip(names, ways, strict=True)]
        ),
    }


def cell_pictures() -> dict[str, Image.Image]:
    image = io.imread(CELLS)
    result = run("cells.yaml", image)
    assert result.fragments is not None
    canvas = contrast(image[None])
    parts = {
        "image": scaled(canvas, 1),
        "basins of the gradient": outlined(canvas, result.fragments[0, 0], 1, YELLOW),
        "regions, the background dropped": outlined(canvas, result.labels[0, 0], 1, CYAN),
    }
    return {"cells.jpg": beside([titled(name, picture) for name, picture in parts.items()])}


def scaled(canvas: np.ndarray, factor: int) -> Image.Image:
    height, width = canvas.shape[:2]
    size = (width * factor, height * factor)
    return Image.fromarray(canvas).resize(size, Image.Resampling.BICUBIC)


def outlined(
    canvas: np.ndarray, labels: np.ndarray, factor: int, color: tuple[int, int, int], wide: int = 1
) -> Image.Image:
    """The image enlarged, with lines around labels, `wide` px."""
    drawn = np.array(scaled(canvas, factor))
    large = labels.repeat(factor, axis=0).repeat(factor, axis=1)
    lines = find_boundaries(large, mode="inner", connectivity=1)
    drawn[ndimage.maximum_filter(lines, wide)] = color
    return Image.fromarray(drawn)


def filled(canvas: np.ndarray, labels: np.ndarray) -> Image.Image:
    """Every region in its mean colour, with a line around it."""
    count = np.maximum(np.bincount(labels.ravel()), 1)
    sums = [np.bincount(labels.ravel(), canvas[..., c].ravel()) for c in range(3)]
    flat = (np.stack(sums, axis=-1) / count[:, None]).astype(np.uint8)[labels]
    large = flat.repeat(2, axis=0).repeat(2, axis=1)
    edges = labels.repeat(2, axis=0).repeat(2, axis=1)
    large[find_boundaries(edges, mode="inner", connectivity=1)] = GREEN
    return Image.fromarray(large)


def graph_picture(pixels: np.ndarray, result: Result) -> Image.Image:
    """Nodes and edges over a part of the image, drawn large and reduced for smooth lines."""
    top, left, height, width = PART
    factor, finer = 6, 2
    assert result.graph is not None
    assert result.fragments is not None
    fragments = result.fragments[0, 0]
    cut = (slice(top, top + height), slice(left, left + width))
    pale = (0.55 * pixels[cut] + 0.45 * 255).astype(np.uint8)  # so that edges stand out
    picture = outlined(pale, fragments[cut], factor, (130, 130, 130))
    picture = picture.resize((width * factor * finer, height * factor * finer))
    draw = ImageDraw.Draw(picture)
    scale = factor * finer
    numbers = np.arange(1, fragments.max() + 1)
    middles = np.array(ndimage.center_of_mass(np.ones_like(fragments), fragments, numbers))
    places = ((middles - (top, left) + 0.5) * scale)[:, ::-1]
    edges = result.graph.edges.to_pydict()
    for a, b, apart in zip(edges["a"], edges["b"], edges["color_distance"], strict=True):
        part = min(apart / FARTHEST, 1.0)
        ends = [tuple(places[a - 1]), tuple(places[b - 1])]
        draw.line(ends, fill=edge_color(part), width=round(finer * (6 - 4 * part)))
    for x, y in places:
        r = 4 * finer
        draw.ellipse((x - r, y - r, x + r, y + r), fill=(255, 255, 255), outline=(0, 0, 0))
    picture = picture.resize((width * factor, height * factor), Image.Resampling.LANCZOS)
    return with_scale(picture)


def edge_color(part: float) -> tuple[int, int, int]:
    """Colour of an edge whose weight is this part of the largest one."""
    red, green, blue = (round(np.interp(part, (0, 0.5, 1), c)) for c in SCALE.T)
    return red, green, blue


def with_scale(picture: Image.Image) -> Image.Image:
    """A bar below, which says what the colours of edges mean."""
    bar = np.full((34, picture.width, 3), 255, np.uint8)
    bar[8:26, 320:580] = [edge_color(part) for part in np.linspace(0, 1, 260)]
    strip = Image.fromarray(bar)
    draw, font = ImageDraw.Draw(strip), ImageFont.load_default(17)
    draw.text((10, 6), "distance of colours (L*a*b*)      0", (0, 0, 0), font)
    draw.text((588, 6), f"{FARTHEST:.0f} and more", (0, 0, 0), font)
    return stacked([picture, strip])


def titled(text: str, picture: Image.Image) -> Image.Image:
    strip = Image.new("RGB", (picture.width, 28), "white")
    ImageDraw.Draw(strip).text((2, 3), text, (0, 0, 0), ImageFont.load_default(18))
    return stacked([strip, picture])


def stacked(pictures: list[Image.Image]) -> Image.Image:
    return Image.fromarray(np.concatenate([np.array(p) for p in pictures]))


def beside(pictures: list[Image.Image]) -> Image.Image:
    gap = np.full((pictures[0].height, GAP_PX, 3), 255, np.uint8)
    parts = [np.array(pictures[0])]
    for picture in pictures[1:]:
        parts += [gap, np.array(picture)]
    return Image.fromarray(np.concatenate(parts, axis=1))


if __name__ == "__main__":
    main()
