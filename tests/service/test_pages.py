"""The pages: reports within the output folders, metrics, and nobody else's business."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from flows.request import Request
from flows.service.known import remember
from flows.service.metrics import metrics_text
from flows.service.pages import make_app
from flows.service.settings import Server, Settings
from pipeline.manifest import ImageRow
from pipeline.recipe import load_recipe
from pipeline.run_folder import RunFolder


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    # Nobody listens at port 1.
    return Settings(home=tmp_path / "home", outputs=(tmp_path / "out",), server=Server(port=1))


@pytest.fixture
def client(settings: Settings) -> TestClient:
    return TestClient(make_app(settings), base_url="http://127.0.0.1:4201")


def test_a_report_is_read_where_its_run_is(client: TestClient, tmp_path: Path) -> None:
    run = tmp_path / "out" / "my run"
    run.mkdir(parents=True)
    assert client.get(f"/out{run}/report.html").status_code == 404
    (run / "report.html").write_text("<p>fine</p>")
    answer = client.get(f"/out{run}/report.html")
    assert (answer.status_code, answer.text) == (200, "<p>fine</p>")
    assert answer.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize(
    "path",
    [
        "/elsewhere/report.html",
        "/out/../elsewhere/report.html",
        "/out/%2e%2e/elsewhere/report.html",
    ],
)
def test_nothing_outside_is_shown(path: str, client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "report.html").write_text("secret")
    answer = client.get(f"/out{tmp_path}{path}")
    assert answer.status_code in (403, 404)
    assert "secret" not in answer.text


def test_links_out_and_other_files_are_not_shown(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "report.html").write_text("secret")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "out" / "objects.parquet").write_text("secret")
    assert client.get(f"/out{tmp_path}/out/link/report.html").status_code == 403
    assert client.get(f"/out{tmp_path}/out/objects.parquet").status_code == 404


def test_a_report_that_is_a_link_is_not_followed(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("secret")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.html").symlink_to(tmp_path / "elsewhere")
    answer = client.get(f"/out{tmp_path}/out/report.html")
    assert answer.status_code == 403
    assert "secret" not in answer.text


def test_pictures_are_drawn_when_they_are_asked_for(client: TestClient, tmp_path: Path) -> None:
    out = tmp_path / "out" / "a"
    url = f"/out{out}/images.svg"
    assert client.get(url).status_code == 404
    folder = RunFolder(out)
    with folder.writing():
        assert client.get(url).status_code == 404
        folder.write_recipe(load_recipe("nuclei").model_dump(mode="json"))
        answer = client.get(url)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("image/svg+xml")
    assert "0 of 0 published images" in answer.text
    assert client.get(f"/out{tmp_path}/elsewhere/images.svg").status_code == 403


def test_other_names_of_this_machine_are_refused(client: TestClient) -> None:
    assert client.get("/health").text == "ok"
    assert client.get("/health", headers={"Host": "attacker.example"}).status_code == 400


def test_metrics_count_images_of_known_runs(
    client: TestClient, settings: Settings, tmp_path: Path
) -> None:
    out = tmp_path / "out" / "a"
    request = Request(load_recipe("nuclei"), tmp_path, out)
    with RunFolder(out).writing() as manifest:
        for name, status in (("a", "published"), ("b", "published"), ("c", "quarantined")):
            manifest.set_image(ImageRow(name, "plan", status, f"/{name}"))
    remember(request, settings.home)
    found = metrics_text(settings).decode()
    assert f'tilewright_images{{label="nuclei",out="{out}",status="published"}} 2.0' in found
    assert f'tilewright_images{{label="nuclei",out="{out}",status="quarantined"}} 1.0' in found
    assert f'tilewright_disk_free_bytes{{root="{tmp_path / "out"}"}}' in found
    assert "tilewright_server_up 0.0" in found
    assert client.get("/metrics").status_code == 200
