"""The viewer's server: what it answers, and all that it does not."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import tifffile
from viewer_server import HOST, KEY, Client, fake_client, segment, serving, squares

SECRET = "nobody's business"
CHUNK = "data/1/results/labels/cells/0/c/0/0"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a broken, a large and a strangely named image."""
    archive = tmp_path_factory.mktemp("archive")
    (archive / "a.png").write_bytes(b"nothing")
    tifffile.imwrite(archive / "large.tif", squares(700, 900))
    tifffile.imwrite(archive / "ä <b>&\"'.tif", squares(40, 50))
    out = segment(archive, tmp_path_factory.mktemp("run") / "out")
    (out.parent / "secret.txt").write_text(SECRET)
    return out


@pytest.fixture(scope="module")
def client(out: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    files = fake_client(tmp_path_factory.mktemp("package") / "client")
    (files.parent / "secret.txt").write_text(SECRET)
    with serving(out, files) as found:
        yield found


def test_the_list_names_every_image(client: Client) -> None:
    page = client.get("")
    assert page.status == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<b>large</b><span>published · 4,425 objects</span><span>900 × 700 px</span>" in (
        page.text.replace("\n", "")
    )
    assert "<b>ä &lt;b&gt;&amp;&quot;&#x27;</b>" in page.text
    assert '<span class="quarantined">quarantined</span>' in page.text
    assert page.text.count('href="v/') == 2
    assert "a.png" in page.text  # the reason


def test_a_long_list_is_turned_over(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.viewer.index_page.LISTED", 1)
    assert '<a href="?first=1">from 2 of 3 →</a>' in client.get("").text
    second = client.get("?first=1").text
    assert '<a href="?first=0">← from 1</a>' in second
    assert second.count("<figcaption>") == 1
    assert client.get("?first=-1").text == client.get("").text
    assert client.get("?first=99999999999999999999999").text.count("<figcaption>") == 0


def test_pictures_are_small_and_only_of_what_is_published(client: Client) -> None:
    picture = client.get("thumbnails/1")
    assert picture.headers["content-type"] == "image/jpeg"
    assert picture.body[:2] == b"\xff\xd8"
    assert len(picture.body) < 40_000
    assert [client.get(f"thumbnails/{number}").status for number in (0, 3, 10**30)] == [404] * 3


def test_chunks_come_whole_in_ranges_or_not_at_all(client: Client, out: Path) -> None:
    stored = (out / "images/large.ome.zarr/labels/cells/0/c/0/0").read_bytes()
    whole = client.get(CHUNK)
    assert (whole.status, whole.body) == (200, stored)
    assert whole.headers["content-type"] == "application/octet-stream"
    assert whole.headers["accept-ranges"] == "bytes"
    part = client.get(CHUNK, Range="bytes=10-19")
    assert (part.status, part.body) == (206, stored[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(stored)}"
    last = client.get(CHUNK, Range="bytes=-8")
    assert (last.status, last.body) == (206, stored[-8:])
    assert client.get(CHUNK, Range=f"bytes={len(stored)}-").status == 416
    head = client.get(CHUNK, "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == str(len(stored))
    assert client.get(CHUNK[:-1] + "7").status == 404
    assert client.get("data/1/image/0/zarr.json").headers["content-type"] == "application/json"


def test_nothing_is_kept_by_the_browser_or_read_by_other_sites(client: Client) -> None:
    for path in ("", "v/1/", CHUNK, "thumbnails/1", "client/start.js", "nothing"):
        headers = client.get(path).headers
        assert headers["cache-control"] == "no-store"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in headers
    for path in ("v/1/", "client/main.0123abcd.js"):  # a thread obeys what came with its file
        assert "connect-src 'self'" in client.get(path).headers["content-security-policy"]
    assert "default-src 'none'" in client.get("").headers["content-security-policy"]


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "", "127.0.0.2:{port}"],
)
def test_other_hosts_are_refused(client: Client, host: str) -> None:
    answer = client.get(CHUNK, Host=host.format(port=client.port))
    assert (answer.status, answer.text) == (403, "This server answers to 127.0.0.1 only.\n")


def test_its_own_names_are_accepted(client: Client) -> None:
    for name in (HOST, "localhost", "LocalHost"):
        assert client.get(CHUNK, Host=f"{name}:{client.port}").status == 200


@pytest.mark.parametrize(
    "method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"]
)
def test_it_is_only_for_reading(client: Client, method: str) -> None:
    answer = client.get(CHUNK, method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "path", ["/", "/other/", "/favicon.ico", f"/{KEY}x/", "/data/1/results/zarr.json"]
)
def test_who_does_not_know_the_key_gets_nothing(client: Client, path: str) -> None:
    assert client.get(path).status == 404


@pytest.mark.parametrize(
    "escape",
    [
        "../../../secret.txt",
        "..%2f..%2f..%2fsecret.txt",
        "%2e%2e/%2e%2e/%2e%2e/secret.txt",
        "labels/../../../../secret.txt",
        "{out}/../secret.txt",
        "/{out}/../secret.txt",
        "%2f{out}/../secret.txt",
        "../ä%20%3Cb%3E&%22'.ome.zarr/zarr.json",
        "../../run.sqlite",
        "zarr.json%00.txt",
        "labels",
        "labels/",
        "",
        "x" * 5000,
        "\\..\\..\\..\\secret.txt",
    ],
)
@pytest.mark.parametrize("folder", ["data/1/results/", "data/1/image/", "client/"])
def test_no_path_leads_out(client: Client, out: Path, folder: str, escape: str) -> None:
    answer = client.get(folder + escape.format(out=out).replace("ä", "%C3%A4"))
    assert answer.status in (307, 400, 404), answer  # 307: the same without the last slash
    assert SECRET not in answer.body.decode(errors="replace")


def test_links_are_followed_only_inside(client: Client, out: Path) -> None:
    zarr = out / "images/large.ome.zarr"
    links = {
        "out.txt": out.parent / "secret.txt",
        "neighbour": next((out / "images").glob("ä*")),
        "up": out,
        "circle": zarr / "circle",
        "inside": zarr / "labels",
        "gone": zarr / "nowhere",
    }
    for name, target in links.items():
        (zarr / name).symlink_to(target)
    os.mkfifo(zarr / "pipe")
    try:
        for path in ("out.txt", "neighbour/zarr.json", "up/run.json", "circle", "gone", "pipe"):
            assert client.get(f"data/1/results/{path}").status == 404, path
        assert client.get("data/1/results/inside/zarr.json").status == 200
    finally:
        for name in (*links, "pipe"):
            (zarr / name).unlink()


def test_an_image_that_is_a_link_out_of_the_run_is_not_served(client: Client, out: Path) -> None:
    zarr = out / "images/large.ome.zarr"
    moved = out.parent / "elsewhere.ome.zarr"
    zarr.rename(moved)
    zarr.symlink_to(moved)
    try:
        assert client.get(CHUNK).status == 404
        assert client.get("v/1/").status == 404
    finally:
        zarr.unlink()
        moved.rename(zarr)


@pytest.mark.parametrize("number", ["0", "3", "-1", "1.0", "x", "1" * 30])
def test_only_published_images_are_served(client: Client, number: str) -> None:
    assert client.get(f"v/{number}/").status == 404
    assert client.get(f"data/{number}/results/zarr.json").status == 404


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("start.js", "text/javascript; charset=utf-8"),
        ("main.0123abcd.js", "text/javascript; charset=utf-8"),
        ("main.0123abcd.css", "text/css; charset=utf-8"),
        ("decode.wasm", "application/wasm"),
    ],
)
def test_the_viewers_files_have_their_types(client: Client, name: str, kind: str) -> None:
    assert client.get(f"client/{name}").headers["content-type"] == kind


def test_a_moved_run_is_served_from_where_it_is(out: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    out.rename(moved)
    try:
        with serving(moved, fake_client(tmp_path / "client")) as client:
            assert client.get(CHUNK).status == 200
            assert client.get("thumbnails/1").status == 200
            assert set(client.layers(1)) == {"image", "cells"}
    finally:
        moved.rename(out)


@pytest.mark.parametrize("mode", ["none", "in_place"])
def test_a_folder_that_records_name_is_served_only_if_it_is_an_image(
    out: Path, tmp_path: Path, mode: str
) -> None:
    """Records may come from others: they must not make it serve any folder of the reader."""
    private = tmp_path / "private"
    private.mkdir()
    (private / "secret.txt").write_text(SECRET)
    records = sqlite3.connect(out / "run.sqlite")
    before = records.execute("SELECT source, details FROM image WHERE name = 'large'").fetchone()
    try:
        records.execute(
            "UPDATE image SET source = ?1, details = "
            "json_set(details, '$.output', ?2, '$.location', ?1) WHERE name = 'large'",
            [str(private), mode],
        )
        records.commit()
        with serving(out, fake_client(tmp_path / "client")) as client:
            for which in ("image", "results"):
                assert client.get(f"data/1/{which}/secret.txt").status == 404
            if mode == "none":
                assert set(client.layers(1)) == {"cells"}
    finally:
        records.execute("UPDATE image SET source = ?, details = ? WHERE name = 'large'", before)
        records.commit()
        records.close()
