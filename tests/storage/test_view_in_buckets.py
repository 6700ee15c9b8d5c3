"""`tilewright view` of runs in a bucket: what it shows on disk, and nothing of the keys."""

from __future__ import annotations

import json
import logging
import sqlite3
from contextlib import contextmanager

import pytest
import tifffile
from typer.testing import CliRunner

from flows.cli import app
from flows.viewer import serve
from pipeline.storage import StorePath
from pipeline.storage.stores import open_store
from tests.flows.viewer_server import fake_client, segment, serving, squares
from tests.storage.s3 import KEYS, upload
from tests.storage.test_stored_sources import write_zarr

SECRET = b"nobody's business"
CHUNK = "data/0/results/labels/cells/0/c/0/0"


@pytest.fixture
def archive(tmp_path):
    folder = tmp_path / "archive"
    folder.mkdir()
    tifffile.imwrite(folder / "large.tif", squares(700, 900))
    return folder


@pytest.fixture
def client_files(tmp_path):
    return fake_client(tmp_path / "client")


@pytest.fixture
def out(archive, bucket):
    return segment(archive, bucket / "out")


@contextmanager
def records_of(out: StorePath, folder):
    """The records of a stored run, to be changed; what this machine keeps of them goes."""
    file = folder / "records.sqlite"
    file.write_bytes((out / "run.sqlite").read_bytes())
    records = sqlite3.connect(file)
    yield records
    records.commit()
    records.close()
    (out / "run.sqlite").write_bytes(file.read_bytes())


def test_layers_and_pictures_are_those_of_a_run_on_disk(
    archive, bucket, tmp_path, client_files, monkeypatch
):
    segment(archive, tmp_path / "out")
    upload(tmp_path / "out", bucket / "out")
    with serving(tmp_path / "out", client_files) as client:
        want = client.start(), client.get("thumbnails/0").body
        page, port = client.get("").text, client.port
    monkeypatch.setenv("HOME", str(tmp_path / "another machine"))
    with serving(bucket / "out", client_files) as client:
        start = client.start()
        assert [layer["name"] for layer in start["state"]["layers"]] == ["image", "cells"]
        assert repr(start).replace(str(client.port), str(port)) == repr(want[0])
        assert client.get("thumbnails/0").body == want[1]
        assert client.get("").text == page


def test_classes_have_their_names_and_probabilities(archive, bucket, client_files):
    method = {"method": "gmm", "k": 2, "output": "probabilities", "class_names": ["dark", "light"]}
    out = segment(archive, bucket / "out", segment=method)
    with serving(out, client_files) as client:
        info = json.loads(client.get("data/0/classes/cells/info").body)
        assert info["inline"]["properties"][0]["values"] == ["dark", "light"]
        assert {"P(dark)", "P(light)"} <= set(client.layers())
        assert client.get("data/0/classes/nothing/info").status == 404


def test_chunks_come_whole_in_ranges_or_not_at_all(out, client_files):
    stored = (out / "images/large.ome.zarr/labels/cells/0/c/0/0").read_bytes()
    size = len(stored)
    with serving(out, client_files) as client:
        whole = client.get(CHUNK)
        assert (whole.status, whole.body) == (200, stored)
        assert whole.headers["content-type"] == "application/octet-stream"
        assert whole.headers["accept-ranges"] == "bytes"
        head = client.get(CHUNK, "HEAD")
        assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(size))
        for asked, start, stop in [
            ("10-19", 10, 20),
            ("-8", size - 8, size),
            ("10-", 10, size),
            (f"{size - 3}-{size + 100}", size - 3, size),
            (f"-{size + 100}", 0, size),
        ]:
            part = client.get(CHUNK, Range=f"bytes={asked}")
            assert (part.status, part.body) == (206, stored[start:stop]), asked
            assert part.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
        for asked in (f"{size}-", f"{size}-{size + 5}", "-0"):
            refused = client.get(CHUNK, Range=f"bytes={asked}")
            assert (refused.status, refused.headers["content-range"]) == (416, f"bytes */{size}")
        for asked in ("9-5", "-", "x", "1-2,4-5", "1-" + "9" * 40):
            assert client.get(CHUNK, Range=f"bytes={asked}").body == stored
        for method in ("GET", "HEAD"):
            assert client.get(CHUNK[:-1] + "7", method).status == 404
        assert client.get(CHUNK[:-1] + "7", Range="bytes=0-5").status == 404
        meta = client.get("data/0/image/0/zarr.json")
        assert meta.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "escape",
    [
        "../../../secret.txt",
        "..%2f..%2f..%2fsecret.txt",
        "%2e%2e/%2e%2e/%2e%2e/secret.txt",
        "labels/../../../../secret.txt",
        "/secret.txt",
        "%2fsecret.txt",
        "/out/run.sqlite",
        "../../run.sqlite",
        "../large.ome.zarr2/secret.txt",
        "../../../../../secret.txt",
        "s3://bucket/secret.txt",
        "zarr.json%00.txt",
        "zarr.json%0a",
        "labels",
        "",
        "x" * 5000,
    ],
)
@pytest.mark.parametrize("extra", [{}, {"Range": "bytes=0-3"}])
def test_no_path_leads_out(out, client_files, escape, extra):
    (out.parent / "secret.txt").write_bytes(SECRET)
    (out / "images/large.ome.zarr2/secret.txt").write_bytes(SECRET)
    with serving(out, client_files) as client:
        for folder in ("data/0/results/", "data/0/image/"):
            answer = client.get(folder + escape, **extra)
            assert answer.status in (307, 400, 404), answer
            assert SECRET[:4] not in answer.body


@pytest.mark.parametrize("mode", ["none", "in_place"])
@pytest.mark.parametrize("where", ["bucket", "disk"])
def test_a_folder_that_records_name_is_served_only_if_it_is_an_image(
    out, tmp_path, client_files, monkeypatch, mode, where
):
    private = tmp_path / "private" if where == "disk" else out.parent / "private"
    private.mkdir()
    (private / "secret.txt").write_bytes(SECRET)
    with records_of(out, tmp_path) as records:
        records.execute(
            "UPDATE image SET source = ?1, details = "
            "json_set(details, '$.output', ?2, '$.location', ?1)",
            [str(private), mode],
        )
    monkeypatch.setenv("HOME", str(tmp_path / "another machine"))
    with serving(out, client_files) as client:
        for which in ("image", "results"):
            assert client.get(f"data/0/{which}/secret.txt").status == 404
        if mode == "none":
            assert set(client.layers()) == {"cells"}


def test_labels_in_place_and_sources_in_the_bucket_are_shown(bucket, client_files):
    for mode in ("none", "in_place"):
        write_zarr(bucket / mode / "z.zarr", squares(1, 1, 1, 60, 70))
        out = segment(bucket / mode, bucket / f"out-{mode}", output={"image": mode})
        with serving(out, client_files) as client:
            assert set(client.layers()) == {"image", "cells"}
            assert client.get("data/0/image/zarr.json").status == 200
            assert client.get("data/0/results/labels/cells/zarr.json").status == 200


def test_a_run_on_disk_whose_archive_is_in_a_bucket(bucket, tmp_path, client_files):
    write_zarr(bucket / "archive" / "z.zarr", squares(1, 1, 1, 60, 70))
    out = segment(bucket / "archive", tmp_path / "out", output={"image": "none"})
    with serving(out, client_files) as client:
        assert set(client.layers()) == {"image", "cells"}
        stored = (bucket / "archive/z.zarr/0/zarr.json").read_bytes()
        assert client.get("data/0/image/0/zarr.json").body == stored


def test_no_answer_holds_a_key_or_the_store(out, s3_port, client_files, monkeypatch):
    for name, value in KEYS.items():
        monkeypatch.setenv(name, f"{value}-SECRET" if "KEY" in name else value)
    open_store.cache_clear()
    with serving(out, client_files) as client:
        paths = ("", "v/0/", CHUNK, "data/0/results/zarr.json", "thumbnails/0", "nothing")
        answers = [client.get(path) for path in paths]
    for answer in answers:
        everything = answer.body + repr(answer.headers).encode()
        for word in (b"SECRET", b"testing", b"Credential", b"X-Amz", str(s3_port).encode()):
            assert word not in everything, word


def test_a_store_that_fails_is_not_taken_for_a_missing_chunk(
    out, client_files, monkeypatch, behind, caplog
):
    monkeypatch.setattr("pipeline.storage.stores.RETRIES", 1)
    door = behind(0.0)
    with serving(out, client_files) as client, caplog.at_level(logging.WARNING, "flows"):
        assert client.get(CHUNK).status == 200
        door.broken = True
        for extra in ({}, {"Range": "bytes=0-5"}, {"Range": "bytes=-5"}):
            answer = client.get(CHUNK, **extra)
            assert (answer.status, answer.text) == (
                502,
                "It cannot be read now; the terminal of the command says why.\n",
            )
        assert f"{out}/images/large.ome.zarr/labels/cells/0/c/0/0" in caplog.text
        assert "did not answer as it should" in caplog.text


def test_faults_are_ridden_out(out, client_files, behind):
    stored = (out / "images/large.ome.zarr/labels/cells/0/c/0/0").read_bytes()
    door = behind(0.3, seed=2)
    with serving(out, client_files) as client:
        for start in range(0, 200, 10):
            part = client.get(CHUNK, Range=f"bytes={start}-{start + 9}")
            assert (part.status, part.body) == (206, stored[start : start + 10])
    assert door.seen["cut"] > 0


def test_a_run_on_the_web_is_shown(archive, web, tmp_path, client_files, monkeypatch):
    """As where somebody put the results of a run on a web server."""
    folder, url = web
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    out = segment(archive, folder / "out")
    with serving(url / "out", client_files) as client:
        assert set(client.layers()) == {"image", "cells"}
        assert client.get("thumbnails/0").status == 200
        stored = (out / "images/large.ome.zarr/labels/cells/0/c/0/0").read_bytes()
        assert client.get(CHUNK).body == stored
        assert client.get(CHUNK, Range="bytes=5-9").body == stored[5:10]


def refusal(*arguments: object) -> str:
    answer = CliRunner().invoke(app, ["view", *map(str, arguments), "--no-browser"])
    assert answer.exit_code == 2, (answer.output, answer.exception)
    return answer.output


def test_the_command_opens_a_bucket_and_names_what_holds_no_run(out, monkeypatch):
    assert f"{out.parent}/empty: no run was ever started here" in refusal(out.parent / "empty")
    said: list[str] = []
    monkeypatch.setattr("uvicorn.Server.run", lambda *_, **__: None)
    monkeypatch.setattr(serve, "find_client", lambda: None)
    serve.view_run(out, 0, False, said.append)
    assert said[0].startswith("http://127.0.0.1:")


def test_a_store_that_does_not_answer_is_named(out, monkeypatch, behind):
    monkeypatch.setattr("pipeline.storage.stores.RETRIES", 1)
    behind(0.0).broken = True
    said = refusal(out)
    assert said.startswith(f"{out}: cannot be read: the store did not answer as it should")
    assert said.count("\n") == 1
