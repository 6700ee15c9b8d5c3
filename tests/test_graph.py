"""Region adjacency graphs: against numpy, scikit-image and themselves in tiles."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx
import numpy as np
import pytest
import tifffile
import yaml
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ome_zarr_models.v05.image_label import ImageLabel
from scipy import ndimage, sparse
from scipy.sparse import csgraph
from skimage import graph as skgraph

from pipeline.conformance import check_conformance, check_image
from pipeline.errors import MethodError, RecipeError
from pipeline.graph.normalized_cut import best_split, normalized_cut
from pipeline.graph.tables import StoredGraph
from pipeline.image import ImageInfo
from pipeline.kernels.region_sums import border_sums, region_sums
from pipeline.pyramid import Pyramid, open_level
from pipeline.recipe import Recipe, parse_recipe
from pipeline.trial import Cut, Result, run_tiled, run_untiled
from pipeline.verify import verify_folder

Content = dict[str, Any]
SOME = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])

#: Fragments: basins of the gradient.
FRAGMENTS: Content = {
    "method": "watershed",
    "masked": False,
    "landscape": "gradient",
    "markers": {"from": "h_minima", "h": 2},
}


def hills(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    rough = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), 1.6)
    return ((rough - rough.min()) / np.ptp(rough) * 255).astype(np.uint8)


def recipe_of(merge: Content, segment: Content = FRAGMENTS, **more: Any) -> Recipe:
    return parse_recipe({"segment": segment, "merge": merge, **more}, "recipe")


def fragments(image: np.ndarray, folder: Path) -> np.ndarray:
    plain = parse_recipe({"segment": FRAGMENTS}, "recipe")
    return run_untiled(plain, image, folder).labels[0, 0].astype(int)


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    return len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]


# --- Sums ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ndim", "connectivity"), [(2, 4), (2, 8), (3, 6), (3, 18), (3, 26)])
def test_sums_are_those_of_a_loop(ndim: int, connectivity: int) -> None:
    generator = np.random.default_rng(connectivity)
    shape = (9, 11) if ndim == 2 else (4, 5, 6)
    labels = generator.integers(0, 5, shape).astype(np.uint64) * 2**40
    values = generator.integers(-50, 50, (2, *shape))
    number, count, sums, squares = region_sums(labels, values)
    assert number.tolist() == [k * 2**40 for k in range(1, 5)]
    for k, n in enumerate(number):
        inside = values[:, labels == n]
        assert count[k] == inside.shape[1]
        assert sums[k].tolist() == inside.sum(axis=1).tolist()
        assert squares[k].tolist() == (inside**2).sum(axis=1).tolist()
    reach = {4: 1, 8: 2, 6: 1, 18: 2, 26: 3}[connectivity]
    expected: dict[tuple[int, int], list[int]] = {}
    for p in np.ndindex(shape):
        for step in itertools.product((-1, 0, 1), repeat=ndim):
            q = tuple(np.add(p, step))
            inside_ = all(0 <= i < n for i, n in zip(q, shape, strict=True))
            if not (step > (0,) * ndim and sum(map(abs, step)) <= reach and inside_):
                continue
            a, b = sorted((int(labels[p]), int(labels[q])))
            if 0 < a < b:
                entry = expected.setdefault((a, b), [0, 0])
                entry[0] += 1
                entry[1] += int(values[0][p] + values[0][q])
    whole = tuple(slice(0, n) for n in shape)
    a, b, length, total = border_sums(labels, whole, values[0], connectivity)
    found = dict(zip(zip(a.tolist(), b.tolist(), strict=True), length.tolist(), strict=True))
    assert found == {pair: entry[0] for pair, entry in expected.items()}
    assert total.tolist() == [expected[pair][1] for pair in sorted(expected)]
    assert list(found) == sorted(found)


def test_many_regions_grow_the_tables() -> None:
    labels = np.arange(1, 90 * 80 + 1).reshape(90, 80)
    number, count, sums, _ = region_sums(labels, labels[None].astype(np.int64))
    assert np.array_equal(number, labels.ravel())
    assert np.array_equal(sums[:, 0], labels.ravel())
    assert (count == 1).all()
    core = (slice(0, 90), slice(0, 80))
    a, b, length, _ = border_sums(labels, core, np.zeros_like(labels), 4)
    assert len(a) == 90 * 79 + 89 * 80
    assert (length == 1).all()
    assert (a < b).all()


# --- Against scikit-image ------------------------------------------------------------------------


@pytest.mark.parametrize("value", [3.0, 12.0, 40.0])
def test_threshold_merging_is_cut_threshold(value: float, tmp_path: Path) -> None:
    image = hills((70, 81))
    labels = fragments(image, tmp_path)
    rag = skgraph.rag_mean_color(np.repeat(image[..., None], 3, axis=2), labels, connectivity=2)
    for _, _, data in rag.edges(data=True):
        data["weight"] /= np.sqrt(3)  # three equal channels
    expected = skgraph.cut_threshold(labels, rag, value)
    recipe = recipe_of({"by": "threshold", "value": value})
    found = run_tiled(recipe, image, tmp_path, Cut((17, 23), 4))
    assert same_partition(found.labels[0, 0], expected)
    assert 1 < found.labels.max() < labels.max()


def test_weights_are_those_of_scikit_image(tmp_path: Path) -> None:
    image = np.stack([hills((50, 61), s) for s in range(3)])[:, None]
    recipe = recipe_of({"by": "threshold", "value": 0})
    found = run_tiled(recipe, image, tmp_path, Cut(19, 2))
    labels = found.labels[0, 0].astype(int)
    colors = np.moveaxis(image[:, 0], 0, -1)
    rag = skgraph.rag_mean_color(colors, labels, connectivity=2)
    assert found.graph is not None
    edges = found.graph.edges.to_pydict()
    assert len(edges["a"]) == rag.number_of_edges() > 50
    for a, b, weight in zip(edges["a"], edges["b"], edges["color_distance"], strict=True):
        assert weight == pytest.approx(rag[a][b]["weight"], rel=1e-12)
    nodes = found.graph.nodes.to_pydict()
    for label in nodes["fragment"]:
        inside = colors[labels == label]
        assert nodes["count_px"][label - 1] == len(inside)
        for c in range(3):
            assert nodes[f"mean_{c}"][label - 1] == pytest.approx(inside[:, c].mean())
            assert nodes[f"std_{c}"][label - 1] == pytest.approx(inside[:, c].std(), abs=1e-6)


@pytest.mark.parametrize("value", [5.0, 25.0, 60.0])
def test_hierarchical_merging_is_merge_hierarchical(value: float, tmp_path: Path) -> None:
    image = hills((70, 81), 3)
    labels = fragments(image, tmp_path)
    rag = skgraph.rag_mean_color(image[..., None].astype(float), labels, connectivity=2)

    def weigh(graph: Any, source: int, target: int, beside: int) -> Content:
        apart = graph.nodes[target]["mean color"] - graph.nodes[beside]["mean color"]
        return {"weight": float(np.linalg.norm(apart))}

    def merge(graph: Any, source: int, target: int) -> None:
        into, gone = graph.nodes[target], graph.nodes[source]
        into["total color"] = into["total color"] + gone["total color"]
        into["pixel count"] += gone["pixel count"]
        into["mean color"] = into["total color"] / into["pixel count"]

    expected = skgraph.merge_hierarchical(
        labels,
        rag,
        thresh=value * np.sqrt(3),  # scikit-image has three equal channels of one
        rag_copy=True,
        in_place_merge=True,
        merge_func=merge,
        weight_func=weigh,
    )
    recipe = recipe_of({"by": "hierarchical", "value": value})
    found = run_tiled(recipe, image, tmp_path, Cut((17, 23), 4))
    assert same_partition(found.labels[0, 0], expected)
    assert 1 < found.labels.max() < labels.max()


def cut_value(weights: np.ndarray, side: np.ndarray) -> float:
    """The normalised cut, by its definition."""
    across = weights[side][:, ~side].sum()
    return float(across / weights[side].sum() + across / weights[~side].sum())


@pytest.mark.parametrize("seed", range(4))
def test_cuts_are_as_small_as_those_of_scikit_image(seed: int, tmp_path: Path) -> None:
    image = hills((60, 66), seed)
    labels = fragments(image, tmp_path)
    rag = skgraph.rag_mean_color(
        image[..., None].astype(float), labels, connectivity=2, mode="similarity", sigma=900.0
    )
    matrix = networkx.to_scipy_sparse_array(rag, nodelist=range(1, labels.max() + 1)).tocsr()
    side, value, bound = best_split(matrix)
    dense = matrix.toarray()
    assert value == pytest.approx(cut_value(dense, side), rel=1e-9)
    assert 0 <= bound <= value
    # Two parts of scikit-image's recursion, stopped after its first cut.
    theirs = skgraph.cut_normalized(
        labels, rag.copy(), thresh=value * 1.5, num_cuts=50, in_place=False, rng=1
    )
    parts = {int(theirs[labels == n][0]) for n in range(1, labels.max() + 1)}
    assert len(parts) >= 2
    best = min(
        cut_value(dense, np.array([theirs[labels == n][0] == p for n in range(1, len(dense) + 1)]))
        for p in parts
    )
    assert value <= best * 1.01


def test_large_parts_state_how_far_from_the_best_cut_they_may_be() -> None:
    rows, columns = np.divmod(np.arange(1600), 40)
    right, below = np.flatnonzero(columns < 39), np.flatnonzero(rows < 39)
    low, high = np.r_[right, below], np.r_[right + 1, below + 40]
    similar = np.random.default_rng(3).uniform(0.2, 1, len(low))
    similar[(low % 40 == 17) & (high == low + 1)] = 0.05
    fine = normalized_cut(1600, low, high, similar, 0.02, 1600)
    assert (fine.cuts, fine.coarse, fine.largest_gap) == (1, 0, 0)
    coarse = normalized_cut(1600, low, high, similar, 0.02, 1000)
    assert coarse.coarse == 1
    assert 0 < coarse.largest_gap < 0.02
    assert fine.largest_cut >= coarse.largest_cut - coarse.largest_gap
    # No bisection is better than the relaxed one, which the bound lies below.
    links = sparse.csr_matrix((similar, (low, high)), shape=(1600, 1600))
    links = links + links.T
    exact = np.sort(np.linalg.eigvalsh(csgraph.laplacian(links, normed=True).toarray()))[1]
    assert best_split(links, precise=False)[2] <= exact + 1e-12


def test_disconnected_parts_are_cut_for_nothing() -> None:
    low, high = np.array([0, 1, 3, 4]), np.array([1, 2, 4, 5])
    found = normalized_cut(7, low, high, np.ones(4), 1e-9, 100)
    assert found.region.tolist() == [0, 0, 0, 3, 3, 3, 6]
    assert found.cuts == 0
    two = normalized_cut(6, np.r_[low, 2], np.r_[high, 3], np.r_[np.ones(4), 0.01], 0.1, 100)
    assert two.region.tolist() == [0, 0, 0, 3, 3, 3]
    assert two.cuts == 1
    assert two.largest_cut == pytest.approx(2 * 0.01 / 4.01)


# --- History, files, other uses ------------------------------------------------------------------


@pytest.mark.parametrize("weight", ["mean_color", "ward", "boundary"])
def test_a_smaller_value_needs_no_second_run(weight: str, tmp_path: Path) -> None:
    image = hills((60, 66), 5)
    large, small = {"mean_color": (40, 9), "ward": (9000, 700), "boundary": (40, 14)}[weight]
    runs = {
        value: run_tiled(
            recipe_of({"by": "hierarchical", "weight": weight, "value": value}),
            image,
            tmp_path,
            Cut(20, 1),
        ).graph
        for value in (large, small)
    }
    graph, other = runs[large], runs[small]
    assert isinstance(graph, StoredGraph)
    assert isinstance(other, StoredGraph)
    expected = other.nodes["region"].to_numpy()
    assert np.array_equal(graph.regions_at(small), expected)
    assert np.array_equal(graph.regions_at(large), graph.nodes["region"].to_numpy())
    assert len(set(graph.nodes["region"].to_pylist())) < len(set(expected)) < len(expected)


def test_so_many_regions_are_left_as_are_wanted(tmp_path: Path) -> None:
    recipe = recipe_of({"by": "hierarchical", "weight": "ward", "regions": 6})
    result = run_tiled(recipe, hills((50, 50)), tmp_path, Cut(16, 1))
    assert result.labels.max() == 6
    assert result.certificate["merge"]["merges"] == len(result.graph.nodes) - 6


def test_the_graph_opens_in_other_libraries(tmp_path: Path) -> None:
    result = run_tiled(
        recipe_of({"by": "threshold", "value": 9}), hills((40, 44)), tmp_path, Cut(16)
    )
    stored = result.graph
    assert stored is not None
    as_networkx, as_scipy = stored.to_networkx(), stored.to_scipy()
    assert as_networkx.number_of_nodes() == as_scipy.shape[0] == len(stored.nodes)
    assert as_networkx.number_of_edges() == as_scipy.nnz // 2 == len(stored.edges)
    a, b = stored.edges["a"][0].as_py(), stored.edges["b"][0].as_py()
    assert as_networkx[a][b]["color_distance"] == as_scipy[a - 1, b - 1] == as_scipy[b - 1, a - 1]
    # Its labels are those of the published image.
    fragment = fragments(hills((40, 44)), tmp_path)
    label = np.append(0, stored.nodes["label"].to_numpy())
    assert np.array_equal(label[fragment], result.labels[0, 0])
    assert np.array_equal(result.fragments[0, 0], fragment)


def test_dropped_regions_have_no_label(tmp_path: Path) -> None:
    recipe = recipe_of({"by": "threshold", "value": 9}, postprocess={"min_size_px": 60})
    result = run_tiled(recipe, hills((40, 44)), tmp_path, Cut(16))
    labels = result.graph.nodes["label"].to_numpy()
    assert labels.min() == 0
    # Fragments stay as they are, whatever becomes of the regions.
    assert result.fragments.max() == len(labels)
    assert (result.fragments > 0).sum() > (result.labels > 0).sum()
    assert set(labels[labels > 0]) == set(range(1, int(result.labels.max()) + 1))


def test_given_labels_are_merged_on_a_boundary_channel(tmp_path: Path) -> None:
    # Four squares; the boundary is strong across the middle column only.
    squares = np.kron(np.array([[1, 2], [3, 7]]), np.ones((6, 6), int))
    tifffile.imwrite(tmp_path / "squares.tif", squares.astype(np.uint16))
    boundary = np.zeros((12, 12), np.uint8)
    boundary[:, 5:7] = 200
    image = np.stack([hills((12, 12)), boundary])[:, None]
    segment = {"method": "given", "file": str(tmp_path / "squares.tif")}
    merge = {"by": "hierarchical", "weight": "boundary", "boundary": 1, "value": 100}
    source = {"channels": [0, 1]}
    result = run_tiled(recipe_of(merge, segment, source=source), image, tmp_path, Cut(5, 2))
    assert result.labels[0, 0, 0].tolist() == [1] * 6 + [2] * 6
    assert np.array_equal(result.labels[0, 0], np.repeat([[1] * 6 + [2] * 6], 12, axis=0))
    assert result.graph.merges["weight"].to_pylist() == pytest.approx(
        [200 / 6 * 2 * 2 / 4] * 2, rel=1
    )


# --- Fragments are published ---------------------------------------------------------------------


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An OME-Zarr 0.5 of 300 x 340 px that labels may go into."""
    pixels = hills((1, 1, 1, 300, 340))
    info = ImageInfo(pixels.shape, "uint8", "tczyx", ("0",), (None,) * 3, None, pixels.shape)
    pyramid = Pyramid(str(tmp_path / "in" / "hills.ome.zarr"), "image", info, "uint8", 2, 1)
    pyramid.create()
    open_level(pyramid.path, 0)[...] = pixels
    pyramid.write_metadata({})
    return tmp_path / "in"


def merging(tmp_path: Path, image: str, **more: object) -> Path:
    path = tmp_path / "regions.yaml"
    merge = {"by": "threshold", "value": 12}
    output = {"image": image, **more}
    path.write_text(yaml.safe_dump({"segment": FRAGMENTS, "merge": merge, "output": output}))
    return path


def listed(image: Path) -> list[str]:
    return list(zarr.open_group(image / "labels", mode="r").attrs["ome"]["labels"])


def test_a_run_publishes_fragments_and_verify_finds_their_damage(
    archive: Path, here: Callable[..., Any], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    here("run", merging(tmp_path, "copy"), archive, out, "--tile", 96)
    assert not verify_folder(out).damaged
    image = out / "images" / "hills.ome.zarr"
    assert listed(image) == ["regions", "regions_fragments"]
    ImageLabel.from_zarr(zarr.open_group(image / "labels" / "regions_fragments", mode="r"))
    graph = StoredGraph.open(image / "graphs" / "regions")
    found = np.asarray(open_level(str(image / "labels" / "regions_fragments"), 0)[0, 0])
    regions = np.asarray(open_level(str(image / "labels" / "regions"), 0)[0, 0])
    number, count = np.unique(found[found > 0], return_counts=True)
    assert np.array_equal(number, graph.nodes["fragment"].to_numpy())
    assert np.array_equal(count, graph.nodes["count_px"].to_numpy())
    assert np.array_equal(np.append(0, graph.nodes["label"].to_numpy())[found], regions)
    page = (out / "report.html").read_text()
    assert "faint ones of what was merged" in page
    shutil.rmtree(image / "labels" / "regions_fragments" / "0" / "c")
    (line,) = verify_folder(out).damaged
    assert line.startswith("hills: fragments: shard 0 ")


def test_a_recipe_can_leave_fragments_out(
    archive: Path, here: Callable[..., Any], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    here("run", merging(tmp_path, "none", fragments=False), archive, out)
    image = out / "images" / "hills.ome.zarr"
    assert listed(image) == ["regions"]
    assert not (image / "labels" / "regions_fragments").exists()
    assert not verify_folder(out).damaged


def test_fragments_in_the_source_leave_with_their_regions(
    archive: Path, here: Callable[..., Any], tmp_path: Path
) -> None:
    source = archive / "hills.ome.zarr"
    here("run", merging(tmp_path, "in_place"), archive, tmp_path / "out")
    assert listed(source) == ["regions", "regions_fragments"]
    assert (source / "graphs" / "regions").is_dir()
    recipe = tmp_path / "regions.yaml"
    plain = {"segment": FRAGMENTS, "output": {"image": "in_place"}}
    recipe.write_text(yaml.safe_dump(plain))
    here("run", recipe, archive, tmp_path / "out", "--fresh")
    assert listed(source) == ["regions"]
    assert not (source / "graphs" / "regions").exists()
    assert not (source / "labels" / "regions_fragments").exists()
    previous = tmp_path / "out" / ".tilewright" / "previous"
    assert len(list(previous.rglob("labels/regions_fragments"))) == 1


def test_the_label_of_another_is_not_taken_for_fragments(
    archive: Path, here: Callable[..., Any], tmp_path: Path
) -> None:
    recipe = tmp_path / "regions_fragments.yaml"
    plain = {"segment": FRAGMENTS, "output": {"image": "in_place"}}
    recipe.write_text(yaml.safe_dump(plain))
    here("run", recipe, archive, tmp_path / "one")
    shorter = tmp_path / "regions.yaml"
    shorter.write_text(yaml.safe_dump(plain))
    here("run", shorter, archive, tmp_path / "two")
    assert listed(archive / "hills.ome.zarr") == ["regions_fragments", "regions"]
    assert not verify_folder(tmp_path / "one").damaged
    assert not verify_folder(tmp_path / "two").damaged


# --- Tiled equals untiled ------------------------------------------------------------------------


MERGES = st.one_of(
    st.builds(
        lambda weight, value: {"by": "threshold", "weight": weight, "value": value},
        st.sampled_from(["mean_color", "boundary"]),
        st.sampled_from([0, 3, 20, 100]),
    ),
    st.builds(
        lambda weight, end: {"by": "hierarchical", "weight": weight, **end},
        st.sampled_from(["mean_color", "ward", "boundary"]),
        st.sampled_from([{"value": 4}, {"value": 300}, {"regions": 1}, {"regions": 5}]),
    ),
    st.builds(
        lambda sigma, value: {"by": "normalized_cut", "sigma": sigma, "value": value},
        st.sampled_from([3, 40]),
        st.sampled_from([0.01, 0.3]),
    ),
    st.builds(
        lambda own, weight, value: {**own, "weight": weight, "value": value},
        st.sampled_from(
            [
                {"by": "multicut"},
                {"by": "multicut", "solver": "greedy_fixation", "by_length": False},
                {"by": "multicut", "solver": "fusion_moves", "iterations": 3},
                {"by": "gasp"},
                {"by": "gasp", "linkage": "sum", "by_length": False},
                {"by": "gasp", "linkage": "mutex"},
            ]
        ),
        st.sampled_from(["mean_color", "boundary"]),
        st.sampled_from([3, 20, 100]),
    ),
)


@given(
    seed=st.integers(0, 2**16),
    dims=st.sampled_from(["2d", "2d", "3d"]),
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
    channels=st.sampled_from([1, 1, 3]),
    space=st.sampled_from(["raw", "lab"]),
    merge=MERGES,
    post=st.sampled_from([{}, {"fill_holes": True, "min_size_px": 5}]),
    side=st.integers(5, 13),
    order=st.integers(0, 99),
)
@SOME
def test_tiled_graphs_and_regions_equal_untiled(
    seed: int,
    dims: str,
    dtype: str,
    channels: int,
    space: str,
    merge: Content,
    post: Content,
    side: int,
    order: int,
) -> None:
    shape = (1, 22, 27) if dims == "2d" else (6, 11, 12)
    image = np.stack([hills(shape, seed + c) for c in range(channels)]).astype(dtype)
    if dtype == "float32":
        image /= 255
        image[:, hills(shape, seed + 9) < 40] = np.nan
    segment: Content = {"method": "threshold", "foreground": {"value": 0}}
    if channels == 1:
        segment = {**FRAGMENTS, "markers": {"from": "h_minima", "h": 0.01}}
    else:
        segment = {"method": "kmeans", "k": 6, "output": "labels", "object_classes": [1, 2, 4]}
        merge = {**merge, "color_space": space}
    source = {"dims": dims, "channels": list(range(channels))}
    recipe = recipe_of(merge, segment, source=source, postprocess=post)
    with tempfile.TemporaryDirectory() as folder:
        result = check_image(recipe, image, [Cut(side, order, 1 + order % 3)], Path(folder))
    assert isinstance(result, Result)


@pytest.mark.parametrize("dims", ["2d", "3d"])
def test_merging_conforms_on_hard_images(dims: str, tmp_path: Path) -> None:
    image = hills((30, 33) if dims == "2d" else (6, 15, 17))
    recipe = {
        "source": {"dims": dims},
        "segment": FRAGMENTS,
        "merge": {"by": "hierarchical", "value": 20},
    }
    check_conformance(recipe, [image], sides=[11], orders=[4], folder=tmp_path)


# --- What is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("merge", "message"),
    [
        ({"by": "hierarchical"}, "say where it ends"),
        ({"by": "hierarchy", "value": 1}, "merge"),
        ({"by": "threshold"}, r"merge.*value"),
        ({"by": "threshold", "value": 1, "weight": "ward"}, "mean_color"),
    ],
)
def test_fields_that_do_not_fit_are_explained(merge: Content, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe_of(merge)


def test_classes_are_not_merged() -> None:
    with pytest.raises(RecipeError, match="merge: it acts on objects"):
        recipe_of({"by": "threshold", "value": 1}, {"method": "kmeans"})


def test_channels_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MethodError, match="boundary is channel 1, 1 are selected"):
        run_untiled(
            recipe_of({"by": "threshold", "value": 1, "boundary": 1}), hills((20, 20)), tmp_path
        )
    with pytest.raises(MethodError, match="lab"):
        run_untiled(
            recipe_of({"by": "threshold", "value": 1, "color_space": "lab"}),
            hills((20, 20)),
            tmp_path,
        )


def test_more_fragments_than_are_allowed_are_refused(tmp_path: Path) -> None:
    recipe = recipe_of({"by": "threshold", "value": 9, "max_fragments": 20})
    with pytest.raises(MethodError, match=r"fragments are to be merged, merge.max_fragments is 20"):
        run_tiled(recipe, hills((60, 66)), tmp_path, Cut(30))


def test_the_plan_refuses_what_it_knows_and_says_what_it_does_not(
    archive: Path, here: Callable[..., Any], tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"

    def plan(segment: Content, **merge: object) -> str:
        content = {"segment": segment, "merge": {"by": "hierarchical", "value": 9, **merge}}
        recipe.write_text(yaml.safe_dump(content))
        return str(here("plan", recipe, archive, expect=3 if merge else 0).stdout)

    slic = {"method": "slic", "size_px": 10}
    assert "graph: about 1,020 fragments in the largest image" in plan(slic)
    assert (
        "WOULD BE QUARANTINED hills: 1020 fragments are to be merged, merge.max_fragments is 1000"
        in plan(slic, max_fragments=1000)
    )
    grid = {**FRAGMENTS, "markers": {"from": "grid", "size_px": 20}}
    assert "graph: about 255 fragments in the largest image" in plan(grid)
    assert "is not known beforehand" in plan(FRAGMENTS)
