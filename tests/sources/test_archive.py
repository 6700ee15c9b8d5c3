"""What is found in an archive, and how it is called."""

from __future__ import annotations

import json
import os
import pickle
import time
from pathlib import Path

import pytest

from pipeline.admission import Refused, admit
from pipeline.errors import RecipeError, UnreadableError
from pipeline.sources import formats
from pipeline.sources.archive import discover, distinct_names, expand
from pipeline.sources.base import SourceSpec, open_source
from pipeline.sources.names import LONGEST_BYTES, fitting, still_listed


def fill(root, *names, text=""):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def names(specs):
    return [spec.name for spec in specs]


def image_folder(path, version="0.4", **attributes):
    ome = attributes or {"multiscales": [{}]}
    if version == "0.4":
        fill(path, ".zgroup", "0/0.0.tif", "labels/x.tif", text="{}")
        (path / ".zattrs").write_text(json.dumps(ome))
    else:
        fill(path, "0/c/0/0.png")
        document = {"node_type": "group", "attributes": {"ome": ome}}
        (path / "zarr.json").write_text(json.dumps(document))


def test_files_of_every_suffix_sorted(tmp_path):
    suffixes = ["tif", "TIFF", "btf", "tf8", "tf2", "png", "JPG", "jpeg", "ome.tif", "Ome.Tiff"]
    fill(tmp_path, *(f"p/{i}.{s}" for i, s in enumerate(suffixes)), "b.tif", "x.txt", "y.xyz")
    specs = discover(tmp_path)
    assert names(specs) == ["b", *(f"p/{i}" for i in range(10))]
    assert {s.reader for s in specs} == {"tiff", "picture"}
    assert all(Path(s.path).is_absolute() for s in specs)
    assert pickle.loads(pickle.dumps(specs)) == specs


def test_dots_inside_names_stay(tmp_path):
    fill(tmp_path, "a.b.c.tif", "v1.2/x.tif")
    assert names(discover(tmp_path)) == ["a.b.c", "v1.2/x"]


def test_hidden_entries_and_own_outputs_are_skipped(tmp_path):
    fill(tmp_path, ".h/a.tif", ".b.tif", "out/.tilewright/lock", "out/run.sqlite", "out/a/b.tif")
    fill(tmp_path, "half/run.json", "half/c.tif")
    assert names(discover(tmp_path)) == ["half/c"]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_zarr_images_are_not_descended(tmp_path, version):
    image_folder(tmp_path / "d" / "a.ome.zarr", version)
    image_folder(tmp_path / "plain", version)
    image_folder(tmp_path / "plate.zarr", version, plate={})
    fill(tmp_path, "array/zarr.json", "array/c/0.tif", text='{"node_type": "array"}')
    fill(tmp_path, "old/.zarray", "old/0.tif", text="{}")
    specs = discover(tmp_path)
    assert names(specs) == ["d/a", "plain", "plate"]
    assert {s.reader for s in specs} == {"ome_zarr"}
    with pytest.raises(
        UnreadableError, match="plate metadata are not understood: 'wells' is missing"
    ):
        open_source(specs[2])
    assert names(discover(tmp_path / "d" / "a.ome.zarr")) == ["a"]


def test_groups_of_images_are_descended(tmp_path):
    fill(tmp_path, "g.zarr/.zgroup", "g.zarr/.zattrs", text="{}")
    image_folder(tmp_path / "g.zarr" / "0")
    assert names(discover(tmp_path)) == ["g.zarr/0"]


def test_a_zarr_with_broken_metadata_is_found_and_fails_when_opened(tmp_path):
    fill(tmp_path, "a.zarr/zarr.json", "a.zarr/c/0.tif", text="{")
    (spec,) = discover(tmp_path)
    with pytest.raises(UnreadableError):
        open_source(spec)


def test_only(tmp_path):
    fill(tmp_path, "p1/A01.tif", "p1/A02.tif", "p2/A01.png", "A01.tif")
    assert names(discover(tmp_path, "p1/*")) == ["p1/A01", "p1/A02"]
    assert names(discover(tmp_path, "*.png")) == ["p2/A01"]
    assert names(discover(tmp_path, "p?/A01")) == ["p1/A01", "p2/A01"]
    assert names(discover(tmp_path, "**/A01.tif")) == ["A01", "p1/A01"]
    with pytest.raises(RecipeError, match=r'none of its 4 images matches "q\*".*"A01\.tif"'):
        discover(tmp_path, "q*")


def test_one_file(tmp_path):
    fill(tmp_path, "d/a.ome.tif")
    (spec,) = discover(tmp_path / "d" / "a.ome.tif")
    assert (spec.name, spec.path) == ("a", str(tmp_path / "d" / "a.ome.tif"))


def test_nothing_there(tmp_path, monkeypatch):
    with pytest.raises(RecipeError, match="does not exist"):
        discover(tmp_path / "x")
    fill(tmp_path, "x.txt")
    for path in (tmp_path, tmp_path / "x.txt"):
        with pytest.raises(RecipeError, match=r"holds no image.*\.tif"):
            discover(path)

    def forbidden(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", forbidden)
    with pytest.raises(RecipeError, match="cannot be listed: permission denied"):
        discover(tmp_path)


def test_links_that_loop_and_links_that_end_nowhere(tmp_path):
    fill(tmp_path, "d/a.tif")
    (tmp_path / "d" / "up").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path / "d")
    (tmp_path / "lost.tif").symlink_to(tmp_path / "gone.tif")
    specs = discover(tmp_path)
    assert names(specs) == ["again/a", "lost"]
    with pytest.raises(UnreadableError, match="no such file"):
        open_source(specs[1])


def test_many_files_are_quick(tmp_path):
    for i in range(20):
        folder = tmp_path / str(i)
        folder.mkdir()
        for j in range(500):
            (folder / f"{j}.tif").touch()
    start = time.perf_counter()
    assert len(discover(tmp_path)) == 10_000
    assert time.perf_counter() - start < 5  # measured: 1e5 files in 2.3 s


def spec(path, name=None, series=""):
    return SourceSpec("tiff", path, name or path.rpartition(".")[0], series)


def test_names_that_collide_are_told_apart():
    specs = [
        spec("a.tif"),
        spec("a.png"),
        spec("A.TIF"),
        spec("b.tif"),
        spec("c.ome.tif", "c"),
        spec("c.tif"),
    ]
    got = distinct_names(specs)
    assert names(got) == ["a.tif_2", "a.png", "A.TIF", "b", "c.ome.tif", "c.tif"]
    assert [s.path for s in got] == [s.path for s in specs]
    backwards = distinct_names(specs[::-1])
    assert names(backwards[::-1]) == names(got)


def test_new_names_do_not_meet_old_ones():
    specs = [
        spec("a.tif"),
        spec("a.png"),
        spec("a.png.tif"),
        spec("é.tif"),
        spec("e\u0301.tif"),
        spec("s.tif", "s_s0", "0"),
        spec("s_s0.tif", "s_s0"),
    ]
    got = names(distinct_names(specs))
    assert got[:3] == ["a.tif", "a.png_2", "a.png"]
    assert len({n.casefold() for n in got}) == len(specs)
    assert distinct_names([]) == []


def test_other_readers_are_not_expanded(tmp_path):
    other = SourceSpec("picture", str(tmp_path / "gone.png"), "gone")
    assert expand(other) == [other]


def test_an_archive_without_images_says_what_it_holds_and_what_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == "nd2" else True)
    fill(tmp_path, "a/1.oib", "a/2.OIB", "b.txt", ".hidden.xyz")
    with pytest.raises(RecipeError) as raised:
        discover(tmp_path)
    said = str(raised.value)
    assert "holds files with .oib (2), .txt (1)." in said
    assert ".czi, .nd2 (with tilewright[formats]), .lif" in said


@pytest.mark.parametrize("form", [form for form in formats.FORMATS if form.needs], ids=str)
def test_a_file_whose_library_is_missing_is_refused_with_its_extra(tmp_path, monkeypatch, form):
    suffix = form.suffixes[0] if form.suffixes else ".any"
    fill(tmp_path, f"a{suffix}", text="anything")
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    spec = SourceSpec(form.reader, str(tmp_path / f"a{suffix}"), "a")
    if form.suffixes:
        assert discover(tmp_path) == [spec]
    (refused,) = admit([spec])
    assert isinstance(refused, Refused)
    assert f"{form.needs[0]} is not installed" in str(refused.error)
    assert "pip install 'tilewright[formats]'" in str(refused.error)


def test_a_library_that_does_not_load_is_a_refusal(tmp_path, monkeypatch):
    def broken(name):
        raise ImportError("libopenslide.so.1: cannot open shared object file")

    fill(tmp_path, "a.mrxs", text="anything")
    monkeypatch.setattr("importlib.import_module", broken)
    (refused,) = admit(discover(tmp_path))
    assert "libopenslide.so.1" in str(refused.error)
    assert "pip install 'tilewright[formats]'" in str(refused.error)


def test_names_that_were_given_stay_and_newcomers_get_others():
    given = {("a.png", ""): "a", ("m.tif", "1"): "m_s1"}
    specs = [spec("a.png"), spec("A.PNG"), spec("a.tif"), spec("m.tif", "m.tif_s1", "1")]
    assert names(distinct_names(specs, given)) == ["a", "A.PNG", "a.tif", "m_s1"]
    assert names(distinct_names([spec("a.tif")], given)) == ["a.tif"]
    assert still_listed(given, [spec("m.tif")]) == {("m.tif", "1"): "m_s1"}


@pytest.mark.parametrize("letter", ["x", "é", "細"])
def test_long_names_are_shortened_and_stay_apart(letter):
    size = 250 // len(letter.encode())
    long = [f"d/{letter * size}{ending}" for ending in ("_s0", "_s1", "")]
    got = [fitting(name) for name in long]
    assert len(set(got)) == 3
    assert all(len(name.encode()) <= 2 + LONGEST_BYTES for name in got)
    assert got[0].endswith("_s0")
    assert fitting("d/" + "x" * LONGEST_BYTES) == "d/" + "x" * LONGEST_BYTES
    assert names(distinct_names([spec(f"{n}.tif", n) for n in long])) == got
