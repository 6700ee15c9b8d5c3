"""The service's doors, forms and pages with archives and outputs in buckets."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from starlette.testclient import TestClient

from flows.request import Request
from flows.service.arrivals import Arrivals, signer
from flows.service.commands import _place
from flows.service.doors import (
    allowed_archive,
    allowed_input,
    allowed_output,
    allowed_recipe,
    on_disk,
)
from flows.service.known import remember
from flows.service.links import page_url
from flows.service.metrics import metrics_text
from flows.service.pages import PICTURES, make_app
from flows.service.runs import check_reserve, work_of
from flows.service.settings import Runs, Server, Settings, load_settings
from pipeline.errors import PlanError, RecipeError
from pipeline.labels_recipe import load_any_recipe
from pipeline.manifest import ImageRow
from pipeline.recipe import parse_recipe
from pipeline.report import summary_rows
from pipeline.run_folder import RunFolder
from pipeline.sources import discover
from pipeline.storage import StorePath, path_of
from tests.in_process import digests, segment
from tests.service.live import Service
from tests.storage.s3 import KEYS
from tests.storage.test_runs_in_buckets import RECIPE, blobs
from tests.storage.test_stored_sources import write_zarr


@pytest.fixture
def settings(bucket, tmp_path) -> Settings:
    return Settings(
        home=tmp_path / "service",
        archives=(str(bucket / "archive"), str(tmp_path / "archive"), "https://host/public"),
        outputs=(str(bucket / "results"),),
        server=Server(port=1),  # where nobody listens
    )


@pytest.fixture
def out(bucket, tmp_path) -> StorePath:
    """A run of one good image and one that is broken."""
    folder = tmp_path / "archive"
    folder.mkdir()
    tifffile.imwrite(folder / "good.tif", blobs(1))
    (folder / "broken.tif").write_bytes(b"nothing")
    for path in folder.iterdir():
        (bucket / "archive" / path.name).write_bytes(path.read_bytes())
    segment(Request(RECIPE, bucket / "archive", bucket / "results" / "a b#ä"))
    return bucket / "results" / "a b#ä"


def test_what_lies_within_is_allowed(settings, bucket):
    for key in ("archive", "archive/day1", "archive/..x/.y", "archive/../archive/a.tif"):
        place = path_of(f"{bucket}/{key}")
        assert allowed_archive(place, settings) == place
        assert allowed_input(place, settings) == place
    assert allowed_output(bucket / "results/new", settings) == bucket / "results/new"
    assert allowed_archive(path_of("https://host/public/a.tif"), settings)


@pytest.mark.parametrize(
    "address",
    [
        "{bucket}",
        "{bucket}/",
        "{bucket}/archive2",
        "{bucket}/archive2/a",
        "{bucket}/Archive/a",
        "{bucket}/archive/../secret",
        "{bucket}/archive/x/../../secret",
        "{bucket}/archive%2fa",
        "{bucket}/%2e%2e/archive",
        "{bucket}/%61rchive",
        "{bucket}-2/archive",
        "{bucket}.evil/archive",
        "s3://other/archive",
        "s3://evil@{name}/archive",
        "s3://{name}:80/archive",
        "s3://{name}?x/archive",
        "gs://{name}/archive",
        "https://{name}/archive",
        "http://host/public/a.tif",
        "https://host:444/public/a.tif",
        "https://host/publications/a.tif",
        "https://host/public/../a.tif",
    ],
)
def test_what_lies_outside_is_refused(address, settings, bucket):
    given = path_of(address.format(bucket=bucket, name=bucket.name))
    for allowed in (allowed_archive, allowed_input, allowed_output):
        with pytest.raises(RecipeError, match="is outside of the service's") as raised:
            allowed(given, settings)
        assert str(given) in str(raised.value)
        assert str(bucket / "results") in str(raised.value) or allowed is allowed_archive
    with pytest.raises(RecipeError, match="outside of the service's outputs"):
        allowed_output(bucket / "archive", settings)
    for beyond in ("/../other/archive", "//../secret", "/archive/../../other"):
        with pytest.raises(RecipeError, match="leads out of its bucket"):
            path_of(f"{bucket}{beyond}")


def test_a_path_on_disk_is_never_taken_for_a_bucket(settings, bucket, tmp_path):
    for path in (f"/{bucket.name}/archive", f"/s3:/{bucket.name}/archive"):
        with pytest.raises(RecipeError, match="is outside"):
            allowed_archive(path_of(path), settings)
    everything = Settings(home=tmp_path, archives=("/",), outputs=("/",))
    with pytest.raises(RecipeError, match="is outside"):
        allowed_archive(bucket / "archive", everything)


def seeded(pattern: str):
    seeds = {"from": "points", "file": pattern}
    growing = {"method": "region_growing", "seeds": seeds, "tolerance": 5}
    return parse_recipe({"segment": growing}, "recipe")


def test_files_that_a_recipe_names_lie_within(settings, out, bucket, tmp_path):
    archive = bucket / "archive"
    for place, deeper in ((archive, archive / "day1/a.tif"), (tmp_path / "archive", None)):
        for pattern in ("{stem}.csv", "seeds/{stem}.csv", "x/../{stem}.csv"):
            assert allowed_recipe(seeded(pattern), place, settings)
        for pattern in ("../seeds/{stem}.csv", "x/../../{stem}.csv", "/results/{stem}.csv"):
            with pytest.raises(RecipeError, match=r"file .*\.csv of the recipe is outside"):
                allowed_recipe(seeded(pattern), place, settings)
        if deeper:
            deeper.write_bytes(b"")
            assert allowed_recipe(seeded("../{stem}.csv"), deeper, settings)
            with pytest.raises(RecipeError, match="of the recipe is outside"):
                allowed_recipe(seeded("../../{stem}.csv"), deeper, settings)


def test_profiles_that_a_recipe_names_lie_within(settings, bucket, tmp_path):
    np.save(tmp_path / "gain.npy", np.ones((9, 9)))
    for key in ("archive/gain.npy", "secret/gain.npy"):
        (bucket / key).write_bytes((tmp_path / "gain.npy").read_bytes())
    for place, allowed in [
        (bucket / "archive/gain.npy", True),
        (bucket / "secret/gain.npy", False),
        (tmp_path / "gain.npy", False),
    ]:
        step = {"filter": "flat_field", "profile": str(place)}
        recipe = parse_recipe({"preprocess": [step], "segment": {"method": "threshold"}}, "recipe")
        if allowed:
            assert allowed_recipe(recipe, bucket / "archive", settings) == recipe
            continue
        with pytest.raises(RecipeError, match="the profile is outside of the service's archives"):
            allowed_recipe(recipe, bucket / "archive", settings)


def test_what_needs_a_disk_says_so(bucket, tmp_path):
    assert on_disk(tmp_path, "data") == tmp_path
    with pytest.raises(RecipeError, match=f"{bucket}: the data must be a folder on disk"):
        on_disk(bucket, "data")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("outputs: [https://host/a]", "outputs.0: .*is on the web, which is only read from"),
        ("work: http://host/a", "work: .*is on the web, which is only read from"),
        ("archives: [ftp://host/a]", "archives.0: .*is no address that is read"),
        ("archives: ['s3://']", "archives.0: .*is no address that is read"),
        ("archives: ['s3://b/../../c']", "archives.0: .*leads out of its bucket"),
        ("archives: [3]", "archives.0: .*not a path, nor an address"),
    ],
)
def test_roots_that_are_none_are_named(content, words, tmp_path):
    file = tmp_path / "service.yaml"
    file.write_text(content)
    with pytest.raises(RecipeError, match=words):
        load_settings(file)


def test_roots_come_from_the_environment_too(monkeypatch, tmp_path):
    monkeypatch.setenv("TILEWRIGHT_OUTPUTS", '["/a", "gs://b/c/"]')
    file = tmp_path / "service.yaml"
    file.write_text("archives: ['~/x', s3://bucket]")
    found = load_settings(file)
    assert list(map(str, found.outputs)) == ["/a", "gs://b/c"]
    assert not str(found.archives[0]).startswith("~")
    assert found.archives[1] == StorePath("s3://bucket", "")


def test_addresses_of_commands_stay_as_they_are(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert _place("s3://bucket/a") == "s3://bucket/a"
    assert _place("a") == str(tmp_path / "a")


def test_unfinished_work_of_each_output_has_a_place_of_its_own(bucket, tmp_path):
    settings = Settings(home=tmp_path, work=str(bucket / "scratch"))
    first, second = work_of(bucket / "a", settings), work_of(bucket / "b", settings)
    assert first.parent == second.parent == bucket / "scratch"
    assert first != second
    assert work_of(tmp_path / "a", settings) is None
    assert work_of(bucket / "a", Settings(home=tmp_path)) is None


def test_room_is_looked_for_where_the_unfinished_work_is(bucket, tmp_path):
    full = Runs(disk_reserve_gib=1e9)
    with pytest.raises(PlanError, match=r"\.tilewright/runs/.*GiB are free on this disk"):
        check_reserve(bucket / "a", Settings(home=tmp_path, runs=full))
    check_reserve(bucket / "a", Settings(home=tmp_path, runs=full, work=str(bucket / "scratch")))


@pytest.fixture
def pages(settings) -> TestClient:
    return TestClient(make_app(settings), base_url="http://127.0.0.1:4201")


def test_report_and_pictures_are_read_where_the_run_is(pages, settings, out, bucket):
    def ask(name: str):
        url = page_url(out, settings, name)
        assert url.startswith(settings.pages.base_url)
        return pages.get(url.removeprefix(settings.pages.base_url))

    (out / "report.html").unlink()
    assert ask("report.html").status_code == 404
    (out / "report.html").write_bytes(b"<p>fine</p>")
    assert (ask("report.html").status_code, ask("report.html").text) == (200, "<p>fine</p>")
    assert ask("report.html").headers["content-type"].startswith("text/html")
    pictures = ask(PICTURES)
    assert pictures.headers["content-type"].startswith("image/svg+xml")
    assert "1 of 1 published image" in pictures.text
    assert "data:image/" in pictures.text
    assert ask("objects.parquet").status_code == 404
    assert ask("run.sqlite").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "s3/{name}/secret/report.html",
        "s3/{name}/results/../secret/report.html",
        "s3/{name}/results/%2e%2e/secret/report.html",
        "s3/{name}/results2/report.html",
        "s3/{name}-2/results/report.html",
        "s3/{name}/archive/report.html",
        "gs/{name}/results/report.html",
        "file/{name}/results/report.html",
        "s3//{name}/results/report.html",
        "s3/{name}/secret/images.svg",
        "https/host/public/report.html",
        "s3/",
    ],
)
def test_nothing_outside_is_shown(path, pages, bucket):
    for key in ("secret", "results2", "archive"):
        (bucket / key / "report.html").write_bytes(b"secret")
    answer = pages.get(f"/store/{path.format(name=bucket.name)}")
    assert answer.status_code in (403, 404)
    assert answer.text != "secret"


def test_a_store_that_fails_is_no_missing_report(pages, settings, out, behind, monkeypatch):
    monkeypatch.setattr("pipeline.storage.stores.RETRIES", 1)
    door = behind(0.0)
    door.broken = True
    answer = pages.get(f"/store/s3/{out.root.partition('://')[2]}/results/a/report.html")
    assert answer.status_code == 502
    assert "cannot be read now" in answer.text
    assert str(door.url) not in answer.text


def test_metrics_count_images_as_this_machine_has_them(settings, out, bucket):
    remember(Request(RECIPE, bucket / "archive", out), settings.home)
    found = metrics_text(settings).decode()
    assert f'tilewright_images{{label="blobs",out="{out}",status="published"}} 1.0' in found
    assert f'tilewright_images{{label="blobs",out="{out}",status="quarantined"}} 1.0' in found


def row_of(folder: RunFolder, name: str) -> ImageRow:
    with closing(folder.reading()) as manifest:
        found = manifest.image(name)
    assert found is not None
    return found


def test_commands_of_the_table_do_an_image_again(out, tmp_path):
    folder = RunFolder(out)
    manifest = folder.reading()
    rows = {row["image"]: row for row in summary_rows(folder, manifest)}
    manifest.close()
    program, command, recipe, archive, beside = shlex.split(rows["broken"]["reproduce"])
    assert (program, command) == ("tilewright", "run")
    assert beside == f"{out}-again"
    again = Request(load_any_recipe(recipe), path_of(archive), path_of(beside))
    assert row_of(segment(again), "broken").reason == row_of(folder, "broken").reason
    path_of(archive).write_bytes((tmp_path / "archive/good.tif").read_bytes())  # it is repaired
    assert row_of(segment(again), "broken").digest == row_of(folder, "good").digest != ""


def test_a_recipe_that_is_not_there_or_not_read_is_named(bucket, behind, monkeypatch):
    with pytest.raises(RecipeError, match=f"{bucket}/r.yaml: there is no such recipe file"):
        load_any_recipe(f"{bucket}/r.yaml")
    monkeypatch.setattr("pipeline.storage.stores.RETRIES", 1)
    behind(0.0).broken = True
    with pytest.raises(RecipeError, match=r"r.yaml: the recipe cannot be read.*did not answer"):
        load_any_recipe(f"{bucket}/r.yaml")


@pytest.fixture
def arrivals(tmp_path) -> Iterator[Arrivals]:
    found = Arrivals(tmp_path / "arrivals.sqlite")
    yield found
    found.close()


def test_images_that_arrive_in_a_bucket_are_taken_once(arrivals, bucket):
    archive, now = bucket / "archive", [1000.0]

    def take() -> list[str]:
        now[0] += 60.0
        paths = [spec.path for spec in discover(archive)]
        looked = arrivals.look(paths, 60.0, now[0], signer(archive, paths))
        ready = arrivals.without_copies(looked.ready)
        arrivals.finish(ready)
        return sorted(path_of(path).name for path in ready)

    (archive / "a.tif").write_bytes(b"abc")
    write_zarr(archive / "b.zarr", blobs(1, 40)[None, None, None])
    assert take() == []  # may still be written
    (archive / "a.tif").write_bytes(b"abcdef")
    assert take() == ["b.zarr"]
    assert take() == ["a.tif"]
    assert take() == []
    (archive / "a.tif").write_bytes(b"fedcba")  # the same size
    assert take() == []
    assert take() == ["a.tif"]
    chunk = next(i.name for i in (archive / "b.zarr").walk() if "/c/" in i.name)
    (archive / "b.zarr" / chunk).write_bytes(b"other")
    assert take() == []
    assert take() == ["b.zarr"]
    assert take() == []


def test_one_image_can_be_watched_and_the_web_cannot(arrivals, bucket):
    place = bucket / "a.tif"
    place.write_bytes(b"abc")
    assert signer(place, [str(place)])(str(place))
    assert signer(bucket, [str(place)])(str(bucket / "gone.tif")) == ""
    with pytest.raises(RecipeError, match="the web cannot be watched"):
        signer(path_of("https://host/a.tif"), ["https://host/a.tif"])


@pytest.mark.service
@pytest.mark.timeout(600)
def test_a_run_of_the_service_from_bucket_to_bucket(bucket, s3_port, tmp_path):
    for number in range(2):
        tifffile.imwrite(tmp_path / f"{number}.tif", blobs(number))
        (bucket / "archive" / f"{number}.tif").write_bytes(
            (tmp_path / f"{number}.tif").read_bytes()
        )
    keys = {**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{s3_port}"}
    roots = {"archives": [f"{bucket}/archive"], "outputs": [f"{bucket}/results"]}
    service = Service(tmp_path / "service", roots, keys)
    service.start()
    try:
        archive, out = f"{bucket}/archive", f"{bucket}/results/day1"
        assert "Completed" in service("submit", "nuclei", archive, out)
        run = service.runs()[0]
        its = {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}}
        links = [
            a["data"] for a in service.ask("/artifacts/filter", its) if a["type"] == "markdown"
        ]
        assert any(f"/store/s3/{bucket.name}/results/day1/report.html" in link for link in links)
        assert "is outside" in service("submit", "nuclei", archive, f"{bucket}/other", expect=1)
        assert service.stop() == 0
    finally:
        if service.process is not None and service.process.poll() is None:
            service.kill()
    record = json.loads((bucket / "results/day1/run.json").read_bytes())
    assert record["counts"]["published"] == 2
    here = Request(load_any_recipe("nuclei"), bucket / "archive", tmp_path / "here")
    there = replace(here, out=bucket / "results/day1")
    assert digests(segment(here)) == digests(RunFolder(there.out))
