"""What the viewer is told to show: every layer can be read, in its place, size and colour."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from viewer_server import HOST, KEY, Client, fake_client, segment, serving, squares, urls_of

UM = {f"PhysicalSize{axis}": size for axis, size in {"X": 0.5, "Y": 0.25, "Z": 2.0}.items()}


class Runs:
    """Makes runs and serves them until the test ends."""

    def __init__(self, home: Path, stack: ExitStack) -> None:
        self.home = home
        self.archive = home / "archive"
        self.archive.mkdir()
        self._client_files = fake_client(home / "client")
        self._stack = stack
        self._count = 0

    def write(self, pixels: np.ndarray, axes: str, **metadata: Any) -> None:
        """Put an image into the archive."""
        meta = {"axes": axes, **metadata}
        tifffile.imwrite(self.archive / "a.ome.tif", pixels, metadata=meta)

    def serve(self, **recipe: Any) -> Client:
        """Segment the archive and serve what comes out."""
        self._count += 1
        return self.show(segment(self.archive, self.home / f"out{self._count}", **recipe))

    def show(self, out: Path) -> Client:
        return self._stack.enter_context(serving(out, self._client_files))


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    with ExitStack() as stack:
        yield Runs(tmp_path, stack)


def require_readable(client: Client, layers: dict[str, dict[str, Any]]) -> None:
    """Every folder of every layer answers as its format has it, every level and first chunk."""
    for layer in layers.values():
        for url in urls_of(layer):
            assert url.startswith(f"http://{HOST}:{client.port}/{KEY}/data/")
            if "/classes/" in url:
                assert client.url(f"{url}info").status == 200
                continue
            for level in json.loads(client.url(f"{url}zarr.json").body)["attributes"]["ome"][
                "multiscales"
            ][0]["datasets"]:
                array = json.loads(client.url(f"{url}{level['path']}/zarr.json").body)
                chunk = "/".join(["c", *["0"] * len(array["shape"])])
                assert client.url(f"{url}{level['path']}/{chunk}").status == 200


def test_one_channel_is_grey_under_labels_in_its_middle_and_units(runs: Runs) -> None:
    image = squares(400, 900, dtype="uint16")
    image[3, 3] = 60_000  # a hot pixel must not darken the others
    runs.write(image, "YX", **UM)
    client = runs.serve()
    start = client.start()
    state = start["state"]
    assert state["title"] == "a"
    assert state["dimensions"] == {"x": [5e-7, "m"], "y": [2.5e-7, "m"]}
    assert state["position"] == [449.5, 199.5]
    assert state["layout"] == "xy"
    assert start["extent"] == [1800, 400]  # in pixels of 0.25 um
    assert start["left_out"] == []
    layers = client.layers()
    assert list(layers) == ["image", "cells"]
    require_readable(client, layers)
    grey, labels = layers.values()
    assert grey["type"] == "image"
    assert 'color(default="#ffffff")' in grey["shader"]
    low, high = grey["shaderControls"]["contrast"]["range"]
    assert low < 12
    assert 190 < high < 210
    assert "localPosition" not in grey
    assert (labels["type"], labels["visible"], labels["source"][-7:]) == (
        "segmentation",
        True,
        "|zarr3:",
    )
    assert state["selectedLayer"]["layer"] == "image"


def test_without_pixel_sizes_lengths_are_pixels(runs: Runs) -> None:
    runs.write(squares(30, 40), "YX")
    assert runs.serve().start()["state"]["dimensions"] == {"x": [1.0, ""], "y": [1.0, ""]}


def test_channels_are_added_up_each_with_its_own_brightness(runs: Runs) -> None:
    image = np.stack([squares(60, 70, dtype="uint16") * factor for factor in (1, 10, 100, 3, 4)])
    names = ["DNA", "cells", "ER", "actin", "RNA"]
    runs.write(image, "CYX", Channel={"Name": names})
    client = runs.serve(source={"channels": ["DNA"]})
    layers = client.layers()
    assert list(layers) == [*names, "cells (2)"]  # a channel has the name of the labels
    require_readable(client, layers)
    channels = list(layers.values())[:5]
    assert [layer["localPosition"] for layer in channels] == [[i] for i in range(5)]
    assert [layer["shaderControls"]["contrast"]["range"][1] for layer in channels] == [
        200,
        2000,
        20000,
        600,
        800,
    ]
    assert [layer["visible"] for layer in channels] == [True] * 4 + [False]
    assert {layer["blend"] for layer in channels} == {"additive"}
    colors = [re.findall(r"#[0-9a-f]{6}", layer["shader"].lower())[0] for layer in channels]
    assert len(set(colors)) == 4


def test_colours_are_as_they_were_taken(runs: Runs) -> None:
    image = np.moveaxis(squares(3, 60, 70), 0, -1)
    tifffile.imwrite(runs.archive / "a.tif", image, photometric="rgb")
    layers = runs.serve(source={"channels": ["red"]}).layers()
    assert list(layers) == ["red", "green", "blue", "cells"]
    found = [layers[name] for name in ("red", "green", "blue")]
    assert [layer["shaderControls"]["contrast"]["range"] for layer in found] == [[0, 255]] * 3
    assert [re.findall(r"#[0-9a-f]{6}", layer["shader"])[0] for layer in found] == [
        "#ff0000",
        "#00ff00",
        "#0000ff",
    ]


def test_a_volume_is_seen_from_three_sides(runs: Runs) -> None:
    runs.write(squares(2, 6, 40, 50), "TZYX", TimeIncrement=3.0, **UM)
    client = runs.serve(source={"dims": "3d"})
    state = client.start()["state"]
    assert state["layout"] == "4panel"
    assert list(state["dimensions"]) == ["x", "y", "z", "t"]
    assert state["dimensions"]["z"] == [2e-6, "m"]
    assert state["displayDimensions"] == ["x", "y", "z"]
    assert state["position"] == [24.5, 19.5, 3, 0]
    require_readable(client, client.layers())


def test_classes_have_their_colours_names_and_probabilities(runs: Runs) -> None:
    runs.write(squares(60, 70), "YX")
    client = runs.serve(segment={"method": "gmm", "k": 2, "output": "probabilities"})
    layers = client.layers()
    assert list(layers) == ["image", "cells", "P(class 1)", "P(class 2)"]
    require_readable(client, layers)
    labels = layers["cells"]
    assert list(labels["segmentColors"]) == ["1", "2"]
    assert all(re.fullmatch("#[0-9a-f]{6}", color) for color in labels["segmentColors"].values())
    info = json.loads(client.url(f"{urls_of(labels)[1]}info").body)
    assert info["@type"] == "neuroglancer_segment_properties"
    assert info["inline"] == {
        "ids": ["1", "2"],
        "properties": [{"id": "name", "type": "label", "values": ["class 1", "class 2"]}],
    }
    second = layers["P(class 2)"]
    assert second["localPosition"] == [1]
    assert not second["visible"]
    assert labels["segmentColors"]["2"] in second["shader"]
    assert client.start()["state"]["selectedLayer"]["layer"] == "cells"
    assert client.get("data/0/classes/nothing/info").status == 404


def test_fragments_are_there_but_hidden(runs: Runs) -> None:
    runs.write(squares(60, 70), "YX")
    client = runs.serve(
        segment={
            "method": "watershed",
            "masked": False,
            "landscape": "intensity",
            "markers": {"from": "h_minima", "h": 1},
        },
        merge={"by": "threshold", "value": 5},
        output={"fragments": True},
    )
    layers = client.layers()
    require_readable(client, layers)
    assert {name: layer["visible"] for name, layer in layers.items()} == {
        "image": True,
        "cells": True,
        "cells_fragments": False,
    }


@pytest.fixture
def source(runs: Runs) -> Path:
    """An OME-Zarr of a user, made of an earlier run."""
    runs.write(squares(60, 70), "YX", **UM)
    out = segment(runs.archive, runs.home / "first")
    (runs.archive / "a.ome.tif").unlink()
    path = runs.archive / "mine.ome.zarr"
    shutil.copytree(out / "images" / "a.ome.zarr", path)
    shutil.rmtree(path / "labels")
    return path


def test_a_source_that_is_ome_zarr_is_shown_from_where_it_lies(runs: Runs, source: Path) -> None:
    client = runs.serve()
    layers = client.layers()
    assert list(layers) == ["image", "cells"]
    assert "/data/0/image/" in layers["image"]["source"]
    assert "/data/0/results/labels/cells/" in layers["cells"]["source"]
    require_readable(client, layers)
    tampered = zarr.open_group(source, mode="r+")
    del tampered["0"]
    tampered.create_array("0", shape=(3, 3), dtype="uint8")
    start = client.start()
    assert [layer["name"] for layer in start["state"]["layers"]] == ["cells"]
    assert "is not the image any more that was segmented" in start["left_out"][0]
    shutil.rmtree(source)
    assert list(client.layers()) == ["cells"]


def test_labels_of_several_runs_in_place_are_all_shown(runs: Runs, source: Path) -> None:
    in_place = {"output": {"image": "in_place"}}
    segment(runs.archive, runs.home / "nuclei", label="nuclei", **in_place)
    client = runs.serve(label="cells", **in_place)
    layers = client.layers()
    assert list(layers) == ["image", "cells", "nuclei"]
    require_readable(client, layers)
    # What others list there need neither exist nor be labels.
    group = zarr.open_group(source / "labels", mode="r+")
    names = ["nuclei", "cells", "gone", "../../../secret", "cells"]
    group.attrs["ome"] = {"version": "0.5", "labels": names}
    start = client.start()
    assert [layer["name"] for layer in start["state"]["layers"]] == ["image", "cells", "nuclei"]
    assert [line.split(" are ")[0] for line in start["left_out"]] == [
        "Labels gone",
        "Labels ../../../secret",
    ]


def test_the_older_format_is_named(runs: Runs) -> None:
    write_older(runs.archive / "old.ome.zarr", squares(60, 70))
    client = runs.serve(output={"image": "in_place"})
    assert client.start()["left_out"] == []
    for name, layer in client.layers().items():
        (url,) = urls_of(layer)
        assert layer["source"] == f"{url}|zarr2:"
        for path in (".zattrs", ".zgroup", "0/.zarray", "0/0/0"):
            assert client.url(f"{url}{path}").status == 200, (name, path)


def write_older(path: Path, pixels: np.ndarray) -> None:
    """Write an OME-Zarr 0.4."""
    group = zarr.open_group(path, mode="w", zarr_format=2)
    key = {"name": "v2", "separator": "/"}
    group.create_array("0", data=pixels, chunks=(64, 64), chunk_key_encoding=key)
    axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "yx"]
    scale = [{"type": "scale", "scale": [0.5, 0.5]}]
    level = {"path": "0", "coordinateTransformations": scale}
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [level]}]


def test_metadata_that_make_no_sense_cost_one_layer(runs: Runs, source: Path) -> None:
    in_place = {"output": {"image": "in_place"}}
    client = runs.serve(label="cells", **in_place)
    group = zarr.open_group(source / "labels" / "cells", mode="r+")
    ome: Any = group.attrs["ome"]
    group.attrs["ome"] = {**ome, "image-label": {"colors": [{"rgba": 3}], "properties": 1}}
    start = client.start()
    assert [layer["name"] for layer in start["state"]["layers"]] == ["image"]
    assert start["left_out"][0].startswith("Labels cells are not shown")
    assert client.get("data/0/classes/cells/info").status == 404


def test_labels_alone_are_shown_with_the_reason(runs: Runs) -> None:
    runs.write(squares(60, 70), "YX")
    client = runs.serve(output={"image": "none"})
    start = client.start()
    assert [layer["name"] for layer in start["state"]["layers"]] == ["cells"]
    assert start["left_out"] == [
        "The image is not shown: only the labels were written, and its source is no OME-Zarr that "
        "can be read."
    ]
    assert start["left_out"][0] in client.get("v/0/").text


def test_pixels_that_the_viewer_cannot_draw_are_left_out(runs: Runs) -> None:
    runs.write(squares(60, 70, dtype="float64"), "YX")
    client = runs.serve()
    start = client.start()
    assert [layer["name"] for layer in start["state"]["layers"]] == ["cells"]
    assert start["left_out"] == [
        "The image is not shown: the viewer cannot draw pixels of float64."
    ]


def test_pixels_of_one_value_or_none_have_a_brightness(runs: Runs) -> None:
    image = np.stack([squares(60, 70, dtype="float32")] * 3)
    image[1] = 7
    image[2] = np.nan
    runs.write(image, "CYX")
    layers = list(runs.serve(source={"channels": [0]}).layers().values())[:3]
    ranges = [layer["shaderControls"]["contrast"]["range"] for layer in layers]
    assert ranges[1:] == [[7, 8], [0, 1]]


def test_a_name_cannot_end_the_pages_own_data(runs: Runs) -> None:
    name = "</script><script>alert(1)<"
    runs.write(squares(60, 70), "YX")
    image = runs.archive / "a.ome.tif"
    folder = runs.archive / "<"
    folder.mkdir()
    image.rename(folder / f"{name.split('/')[1]}.ome.tif")
    client = runs.serve()
    assert client.start()["state"]["title"] == "</script><script>alert(1)<"
    page = client.get("v/0/").text
    assert page.count("<script") == 3  # the data, start.js, and the client's own
    assert "alert" not in re.sub(r'<script type="application/json".*?</script>', "", page)
