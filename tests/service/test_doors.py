"""Which folders the service reads and writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.service.doors import allowed_archive, allowed_output
from flows.service.settings import Settings
from pipeline.errors import RecipeError


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    for name in ("archive", "out", "elsewhere"):
        (tmp_path / name).mkdir()
    return Settings(
        home=tmp_path / "home", archives=(tmp_path / "archive",), outputs=(tmp_path / "out",)
    )


def test_what_lies_within_is_allowed(settings: Settings, tmp_path: Path) -> None:
    inner = tmp_path / "archive" / "day1"
    inner.mkdir()
    assert allowed_archive(inner, settings) == inner
    assert allowed_archive(tmp_path / "archive", settings) == tmp_path / "archive"
    new = tmp_path / "out" / "not" / "there" / "yet"
    assert allowed_output(new, settings) == new


@pytest.mark.parametrize("path", ["elsewhere", "archive/../elsewhere", "", "archive2", "out"])
def test_what_lies_outside_is_refused(path: str, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "archive2").mkdir()
    with pytest.raises(RecipeError, match="outside of the service's archives") as raised:
        allowed_archive(tmp_path / path, settings)
    assert str(tmp_path / "archive") in str(raised.value)
    with pytest.raises(RecipeError, match="outside of the service's outputs"):
        allowed_output(tmp_path / "archive" / path, settings)


def test_links_that_lead_out_are_refused(settings: Settings, tmp_path: Path) -> None:
    secret = tmp_path / "elsewhere" / "secret.tif"
    secret.write_bytes(b"x")
    folder = tmp_path / "archive" / "a" / "b"
    folder.mkdir(parents=True)
    (folder / "good.tif").symlink_to(tmp_path / "archive" / "a")  # within: fine
    assert allowed_archive(tmp_path / "archive", settings)
    link = folder / "bad.tif"
    link.symlink_to(secret)
    with pytest.raises(RecipeError) as raised:
        allowed_archive(tmp_path / "archive", settings)
    assert str(link) in str(raised.value)
    (tmp_path / "out" / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RecipeError, match="outside"):
        allowed_output(tmp_path / "out" / "link" / "run", settings)


def test_links_in_images_are_looked_at_too(settings: Settings, tmp_path: Path) -> None:
    chunks = tmp_path / "archive" / "a.ome.zarr" / "0" / "c" / "0"
    chunks.mkdir(parents=True)
    (chunks / "0").write_bytes(b"x")
    assert allowed_archive(tmp_path / "archive", settings)
    (chunks / "1").symlink_to(tmp_path / "elsewhere" / "raw")
    with pytest.raises(RecipeError, match="outside"):
        allowed_archive(tmp_path / "archive" / "a.ome.zarr", settings)


def test_links_in_a_circle_and_closed_folders_lead_nowhere(
    settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "archive" / "circle").symlink_to(tmp_path / "archive" / "circle")
    closed = tmp_path / "archive" / "closed"
    closed.mkdir(mode=0)
    try:
        assert allowed_archive(tmp_path / "archive", settings) == tmp_path / "archive"
    finally:
        closed.chmod(0o700)


def test_relative_paths_are_refused(settings: Settings) -> None:
    with pytest.raises(RecipeError, match="absolute"):
        allowed_archive(Path("archive"), settings)


def test_without_roots_nothing_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="none is set"):
        allowed_archive(tmp_path, Settings(home=tmp_path))
