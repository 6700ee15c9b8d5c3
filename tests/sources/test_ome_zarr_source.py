"""OME-Zarr of both versions: pixels, units, and chunks that are missing or corrupt."""

from __future__ import annotations

import json

import numpy as np
import pytest
import zarr

from pipeline.box import Box
from pipeline.errors import DamageError, UnreadableError
from pipeline.sources import ome_zarr

KINDS = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
UNITS = {"t": "millisecond", "z": "micrometer", "y": "nanometer", "x": "micrometer"}
SIZES = {"t": 2, "c": 3, "z": 5, "y": 37, "x": 29}


def write(path, image, axes, version=2, attributes=None, **options):
    group = zarr.open_group(path, mode="w", zarr_format=version)
    sides = {"t": 1, "c": 1, "z": 2, "y": 16, "x": 8}
    options = {
        "chunks": tuple(min(sides[a], n) for a, n in zip(axes, image.shape, strict=True))
    } | options
    options.setdefault("config", {"write_empty_chunks": True})
    array = group.create_array("0", shape=image.shape, dtype=image.dtype, **options)
    array[...] = image
    multiscale = {
        "axes": [{"name": a, "type": KINDS[a], "unit": UNITS.get(a, "")} for a in axes],
        "datasets": [
            {
                "path": "0",
                "coordinateTransformations": [{"type": "scale", "scale": [2.0] * len(axes)}],
            }
        ],
    }
    ome = {"multiscales": [multiscale], **(attributes or {})}
    group.attrs.update({"ome": {"version": "0.5", **ome}} if version == 3 else ome)
    return path


def pixels(axes, dtype="uint16"):
    image = np.random.default_rng(4).integers(1, 100, [SIZES[a] for a in axes])
    return image.astype(dtype)


def canonical(image, axes):
    present = [a for a in "tczyx" if a in axes]
    image = image.transpose([axes.index(a) for a in present])
    return image.reshape([SIZES[a] if a in axes else 1 for a in "tczyx"])


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("axes", ["yx", "cyx", "zyx", "tyx", "czyx", "tczyx", "zcyx", "xyz"])
def test_axes(tmp_path, open_path, same, version, axes):
    image = pixels(axes)
    path = write(tmp_path / "a.zarr", image, axes, version)
    with open_path(path) as source:
        same(source, canonical(image, axes))
        assert source.info.axes == "".join(a for a in "tczyx" if a in axes)
        assert source.info.chunks[3:] == (16, 8)
        z = 2.0 if "z" in axes else None
        assert source.info.pixel_size_um == pytest.approx((z, 0.002, 2.0))
        assert source.info.time_step_s == (pytest.approx(0.002) if "t" in axes else None)


@pytest.mark.parametrize("dtype", [">u2", "<i4", "int8", "bool", "float16", ">f4", "float64"])
def test_types(tmp_path, open_path, same, dtype):
    image = pixels("zyx", dtype)
    path = write(tmp_path / "a.zarr", image, "zyx")
    read_as = {"bool": "uint8", "float16": "float32"}.get(dtype, dtype)
    want = image.astype(np.dtype(read_as).newbyteorder("="))
    with open_path(path) as source:
        same(source, canonical(want, "zyx"))


@pytest.mark.parametrize("version", [2, 3])
def test_one_chunk_of_several_channels(tmp_path, open_path, same, version):
    image = pixels("cyx")
    path = write(tmp_path / "a.zarr", image, "cyx", version, chunks=(3, 16, 16))
    with open_path(path) as source:
        same(source, canonical(image, "cyx"))
        assert source.info.chunks == (1, 3, 1, 16, 16)


def test_shards(tmp_path, open_path, same):
    image = pixels("czyx")
    path = write(tmp_path / "a.zarr", image, "czyx", 3, chunks=(1, 1, 8, 8), shards=(1, 5, 16, 16))
    with open_path(path) as source:
        same(source, canonical(image, "czyx"))
        assert source.info.chunks == (1, 1, 1, 8, 8)
    next(p for p in (path / "0" / "c" / "1").rglob("*") if p.is_file()).unlink()
    with open_path(path) as source, pytest.raises(DamageError, match=r"chunk c/1/.* is missing"):
        source.read(0, [1], Box.whole(source.info.shape[2:]))


def test_channel_labels(tmp_path, open_path):
    omero = {"omero": {"channels": [{"label": "DAPI"}, {}, {"label": "DAPI"}]}}
    path = write(tmp_path / "a.zarr", pixels("cyx"), "cyx", 3, omero)
    assert open_path(path).info.channels == ("DAPI", "1", "DAPI_2")


def test_old_metadata_without_axes(tmp_path, open_path, same):
    image = pixels("tczyx")
    path = write(tmp_path / "a.zarr", image, "tczyx")
    (path / ".zattrs").write_text(json.dumps({"multiscales": [{"datasets": [{"path": "0"}]}]}))
    with open_path(path) as source:
        same(source, image)
        assert source.info.pixel_size_um == (None, None, None)


def chunk(path, version, index):
    return path / "0" / ("/".join(["c", *index]) if version == 3 else ".".join(index))


@pytest.mark.parametrize("version", [2, 3])
def test_a_missing_chunk_is_damage_unless_allowed(tmp_path, open_path, version):
    path = write(tmp_path / "a.zarr", pixels("yx"), "yx", version, fill_value=0)
    chunk(path, version, "11").unlink()
    with open_path(path) as source:
        with pytest.raises(DamageError, match=r"1.1 of 0 is missing.*source.missing_chunks: fill"):
            source.read(0, [0], Box((0, 15, 7), (1, 17, 9)))
        assert source.read(0, [0], Box((0, 0, 0), (1, 16, 29))).all()
    with open_path(path, missing="fill") as source:
        got = source.read(0, [0], Box.whole((1, 37, 29)))[0, 0]
        assert not got[16:32, 8:16].any()
        assert np.count_nonzero(got) == 37 * 29 - 16 * 8


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("content", [b"", b"garbage", None])
def test_a_corrupt_chunk_is_named(tmp_path, open_path, version, content):
    path = write(tmp_path / "a.zarr", pixels("yx"), "yx", version)
    file = chunk(path, version, "12")
    file.write_bytes(file.read_bytes()[:-9] if content is None else content)
    for missing in ("error", "fill"):
        with open_path(path, missing=missing) as source:
            with pytest.raises(DamageError, match=r"chunk 1.2 of 0 \(y 16-31, x 16-23\)"):
                source.read(0, [0], Box.whole((1, 37, 29)))
            assert source.read(0, [0], Box((0, 0, 0), (1, 16, 29))).all()


def test_a_cut_uncompressed_chunk_is_damage(tmp_path, open_path):
    path = write(tmp_path / "a.zarr", pixels("yx"), "yx", 3, compressors=None)
    file = chunk(path, 3, "00")
    file.write_bytes(file.read_bytes()[:-2])
    with open_path(path) as source, pytest.raises(DamageError, match=r"chunk 0\.0"):
        source.read(0, [0], Box((0, 0, 0), (1, 4, 4)))


@pytest.mark.parametrize("version", [2, 3])
def test_only_chunks_of_the_box_are_read(tmp_path, open_path, version):
    path = write(tmp_path / "a.zarr", pixels("yx"), "yx", version)
    for file in (path / "0").rglob("*"):
        if file.is_file() and file not in {
            path / "0" / n for n in ("zarr.json", ".zarray", ".zattrs")
        } | {chunk(path, version, "11")}:
            file.write_bytes(b"garbage")
    with open_path(path) as source:
        assert source.read(0, [0], Box((0, 16, 8), (1, 32, 16))).all()


def scaled(scale, translation=None):
    """Attributes of an image of axes cyx."""
    steps = [{"type": "scale", "scale": scale}]
    if translation:
        steps.append({"type": "translation", "translation": translation})
    level = {"path": "0", "coordinateTransformations": steps}
    return {"multiscales": [{"axes": ["c", "y", "x"], "datasets": [level]}]}


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"plate": {"wells": []}}, "HCS plate, not one of its fields"),
        ({"multiscales": []}, "no multiscales"),
        ({"multiscales": [{"datasets": []}]}, "understood: a list that must not be empty is"),
        ({"multiscales": [{}]}, "not understood: 'datasets' is missing"),
        (scaled([1.0, 1.0]), "not understood: a scale has 2 numbers, and there are 3 axes"),
        (scaled([1.0] * 3, [0.0]), "a translation has 1 numbers, and there are 3 axes"),
        ({"multiscales": "x"}, "not understood"),
        ({"multiscales": [{"datasets": [{"path": "7"}]}]}, 'its level 0, "7", is not there: .*Big'),
        ({"multiscales": [{"datasets": [{"path": "../b"}]}]}, "not inside"),
        ({"multiscales": [{"axes": ["y", "x"], "datasets": [{"path": "0"}]}]}, "do not fit"),
        ({"multiscales": [{"axes": ["q", "y", "x"], "datasets": [{"path": "0"}]}]}, 'axis "q"'),
        ({"multiscales": [{"axes": ["c", "z", "x"], "datasets": [{"path": "0"}]}]}, "lack y"),
    ],
    ids=str,
)
def test_metadata_that_are_refused(tmp_path, open_path, attributes, reason):
    path = write(tmp_path / "Big.zarr", pixels("cyx"), "cyx")
    (path / ".zattrs").write_text(json.dumps(attributes))
    with pytest.raises(UnreadableError, match=reason) as caught:
        open_path(path)
    assert caught.value.path == str(path)


def test_broken_json_nothing_and_forbidden(tmp_path, open_path, monkeypatch):
    path = write(tmp_path / "a.zarr", pixels("cyx"), "cyx")
    (path / ".zattrs").write_text("{")
    with pytest.raises(UnreadableError):
        open_path(path)
    (path / ".zattrs").write_text("[" * 100_000)
    with pytest.raises(UnreadableError, match="nested too deeply"):
        open_path(path)
    for name in (".zattrs", ".zgroup"):
        (path / name).unlink()
    with pytest.raises(UnreadableError, match=r"a\.zarr holds no zarr group: zarr\.json or"):
        open_path(path)
    with pytest.raises(UnreadableError, match="does not exist"):
        open_path(tmp_path / "b.zarr")

    def forbidden(*args, **kwargs):
        raise PermissionError(13, "Permission denied", "a.zarr")

    monkeypatch.setattr("pathlib.Path.iterdir", forbidden)
    with pytest.raises(UnreadableError, match="permission denied"):
        open_path(path)


def test_complex_pixels_and_huge_chunks_are_refused(tmp_path, open_path, monkeypatch):
    path = write(tmp_path / "a.zarr", pixels("yx", "complex64"), "yx")
    with pytest.raises(UnreadableError, match="complex64"):
        open_path(path)
    path = write(tmp_path / "b.zarr", pixels("yx"), "yx")
    monkeypatch.setattr(ome_zarr, "CHUNK_LIMIT_BYTES", 255)
    with pytest.raises(UnreadableError, match="256 bytes, the limit is 255"):
        open_path(path)


@pytest.mark.parametrize("version", [2, 3])
def test_the_fingerprint_follows_chunks_and_metadata(tmp_path, open_path, version):
    path = write(tmp_path / "a.zarr", pixels("yx"), "yx", version)
    seen = [open_path(path).fingerprint()]
    assert open_path(path).fingerprint() == seen[0]
    chunk(path, version, "11").unlink()
    seen.append(open_path(path).fingerprint())
    zarr.open_group(path, mode="a").attrs["note"] = "x"
    seen.append(open_path(path).fingerprint())
    assert len(set(seen)) == 3


def test_a_group_inside_is_named_by_series(tmp_path, open_path, same):
    image = pixels("yx")
    write(tmp_path / "a.zarr" / "inner" / "1", image, "yx")
    with open_path(tmp_path / "a.zarr", series="inner/1") as source:
        same(source, canonical(image, "yx"))
