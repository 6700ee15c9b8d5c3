"""The viewer lists and opens the fields of a plate."""

from __future__ import annotations

from pathlib import Path

import pytest
from viewer_server import fake_client, segment, serving, squares

from tests.plate_files import write_plate


@pytest.mark.parametrize("image", ["copy", "none", "in_place"])
def test_fields_of_a_plate(tmp_path: Path, image: str) -> None:
    fields = {("A", c, f): squares(40, 50) for c in ("1", "12") for f in ("0", "1")}
    plate = write_plate(tmp_path / "p.zarr", fields, "0.5")
    out = segment(plate, tmp_path / "out", output={"image": image})
    if image != "in_place":
        out = out.rename(tmp_path / "moved")
    with serving(out, fake_client(tmp_path / "client")) as client:
        page = client.get("").text
        assert page.count('href="v/') == 4
        for number, name in enumerate(["p/A/1/0", "p/A/1/1", "p/A/12/0", "p/A/12/1"]):
            assert f"<b>{name}</b>" in page
            shown = client.get(f"v/{number}/")
            assert shown.status == 200
            assert "is not shown" not in shown.text
            assert client.get(f"data/{number}/results/labels/cells/zarr.json").status == 200
            assert client.get(f"data/{number}/image/0/zarr.json").status == 200
            assert client.get(f"thumbnails/{number}").status == 200


def test_a_stitched_well(tmp_path: Path) -> None:
    fields = {("B", "2", f): squares(36, 48) for f in ("0", "1")}
    plate = write_plate(tmp_path / "p.zarr", fields)
    source = {"fields": "stitched", "grid": {"columns": 2}}
    out = segment(plate, tmp_path / "out", source=source)
    with serving(out, fake_client(tmp_path / "client")) as client:
        page = client.get("").text
        assert "<b>p/B/2</b>" in page
        assert "96 × 36 px" in page
        assert "is not shown" not in client.get("v/0/").text


def test_the_view_begins_where_the_field_lies(tmp_path: Path) -> None:
    place = ("A", "1", "0")
    write_plate(tmp_path / "p.zarr", {place: squares(40, 50)}, "0.5", {place: (100.0, -30.0)})
    for image in ("copy", "none"):
        out = segment(tmp_path / "p.zarr", tmp_path / image, output={"image": image})
        with serving(out, fake_client(tmp_path / f"client-{image}")) as client:
            state = client.start(0)["state"]
            assert state["dimensions"] == {"x": [5e-7, "m"], "y": [5e-7, "m"]}
            assert state["position"] == [24.5 - 60, 19.5 + 200]
