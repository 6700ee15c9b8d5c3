"""Outlines and tables that a recipe asked for, in the report and in the list of the viewer."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import pytest
import tifffile
from starlette.testclient import TestClient

from flows.request import Request
from flows.service.pages import make_app
from flows.service.settings import Settings
from pipeline.labels_recipe import parse_any_recipe
from pipeline.run_folder import RunFolder
from tests import in_process
from tests.flows.viewer_server import fake_client, serving, squares

SEGMENT = {"method": "threshold", "foreground": {"value": 100}}
ALL = {"csv": True, "outlines": "geojson", "table": "anndata"}
NAMES = ("a & b#1", "deep/é <i>")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    for name in NAMES:
        path = tmp_path / "archive" / f"{name}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, squares(40, 50))
    (tmp_path / "archive" / "broken.tif").write_bytes(b"nothing")
    return tmp_path / "archive"


def run(archive: Path, out: Path, **content: object) -> RunFolder:
    given = {"label": "cells", "segment": SEGMENT, **content}
    return in_process.segment(Request(parse_any_recipe(given, "recipe"), archive, out))


def links(folder: RunFolder) -> list[Path]:
    """Where the links of the report lead, from the folder that it lies in."""
    assert isinstance(folder.root, Path)
    page = folder.report.read_text("utf-8")
    found = (unescape(link) for link in re.findall(r'<a href="([^"]*)"', page))
    return [folder.root / unquote(link) for link in found]


def test_every_image_has_links_to_its_outlines(archive: Path, tmp_path: Path) -> None:
    folder = run(archive, tmp_path / "out", output=ALL)
    outlines = [folder.outlines_path(name) for name in NAMES]
    assert links(folder) == [*outlines, folder.objects_csv]
    assert all(path.is_file() for path in links(folder))
    for name, path in zip(NAMES, outlines, strict=True):
        assert len(json.loads(path.read_text("utf-8"))["features"]) == 20, name
    page = folder.report.read_text("utf-8")
    assert page.count('">AnnData</span>') == len(NAMES)
    place = "images/a &amp; b#1.ome.zarr/tables/cells"
    assert f'<span title="{place}">AnnData</span>' in page
    assert (tmp_path / "out" / unescape(place)).is_dir()
    heads, *rows = page.partition("All images</h2>")[2].split("</tr>")[: len(NAMES) + 2]
    assert "<button>Files</button>" in heads
    assert [row.count("<td") for row in rows] == [heads.count("<th><") + heads.count("<th ")] * 3


def test_what_was_not_asked_for_is_not_mentioned(archive: Path, tmp_path: Path) -> None:
    folder = run(archive, tmp_path / "out")
    page = folder.report.read_text("utf-8")
    assert links(folder) == []
    for word in ("<button>Files", "objects.csv", "AnnData</span>"):
        assert word not in page


def test_each_of_several_labels_has_its_own(archive: Path, tmp_path: Path) -> None:
    labels = {"bright": {"segment": SEGMENT}, "brighter": {"segment": SEGMENT}}
    given = parse_any_recipe({"labels": labels, "output": ALL}, "recipe")
    folder = in_process.segment(Request(given, archive, tmp_path / "out"))
    want = [folder.outlines_path(name, label) for name in NAMES for label in labels]
    assert links(folder) == [*want, folder.objects_csv]
    assert all(path.is_file() for path in links(folder))
    page = folder.report.read_text("utf-8")
    for label in labels:
        assert page.count(f">outlines of {label}</a>") == len(NAMES)
        assert page.count(f'/tables/{label}">AnnData of {label}</span>') == len(NAMES)


def test_the_viewer_names_them(archive: Path, tmp_path: Path) -> None:
    folder = run(archive, tmp_path / "out", output=ALL)
    with serving(tmp_path / "out", fake_client(tmp_path / "client")) as client:
        page = client.get("").text
    assert f"All objects: <code>{folder.objects_csv}</code>" in page
    assert "<span>outlines: <code>outlines/a &amp; b#1.geojson</code></span>" in page
    assert "<span>AnnData: <code>images/a &amp; b#1.ome.zarr/tables/cells</code></span>" in page
    assert page.count("outlines: <code>") == len(NAMES)
    plain = run(archive, tmp_path / "plain")
    with serving(plain.root, fake_client(tmp_path / "client2")) as client:
        page = client.get("").text
    assert "outlines" not in page
    assert "objects.csv" not in page


def test_links_of_a_report_work_in_the_service(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(archive, out, output=ALL)
    (tmp_path / "secret.geojson").write_text("secret")
    (out / "outlines" / "link.geojson").symlink_to(tmp_path / "secret.geojson")
    (out / "elsewhere.geojson").write_text("secret")
    settings = Settings(home=tmp_path / "home", outputs=(out,))
    pages = TestClient(make_app(settings), base_url="http://127.0.0.1:4201")
    base = f"/out{out}"
    table = pages.get(f"{base}/objects.csv")
    assert table.headers["content-type"].startswith("text/csv")
    assert table.content == (out / "objects.csv").read_bytes()
    outlines = pages.get(f"{base}/outlines/deep/%C3%A9%20%3Ci%3E.geojson")
    assert outlines.headers["content-type"] == "application/geo+json"
    assert len(outlines.json()["features"]) == 20
    assert pages.get(f"{base}/outlines/link.geojson").status_code == 403
    assert pages.get(f"{base}/elsewhere.geojson").status_code == 404
    assert pages.get(f"{base}/outlines/none.geojson").status_code == 404
