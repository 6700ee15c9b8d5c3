"""Leica LIF: any order of dimensions, stage positions, cut files; the oracle is liffile."""

from __future__ import annotations

import liffile
import numpy as np
import pytest
from lif_writer import lif_image, write_lif

from pipeline.errors import DamageError, UnreadableError
from pipeline.sources.archive import expand
from pipeline.sources.base import SourceSpec, open_source


def pixels(shape, dtype="uint16"):
    return np.random.default_rng(5).integers(0, 200, shape).astype(dtype)


def listed(path):
    return expand(SourceSpec("lif", str(path), path.stem))


@pytest.mark.parametrize("axes", ["TZCYX", "CTZYX", "TCZYX", "ZTCYX", "TZYXC"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_any_order_of_dimensions(tmp_path, open_path, same, axes, dtype):
    sizes = {"T": 2, "Z": 3, "C": 4, "Y": 11, "X": 13}
    stored = pixels([sizes[a] for a in axes], dtype)
    write_lif(tmp_path / "a.lif", lif_image("one", stored, axes))
    with liffile.LifFile(tmp_path / "a.lif") as oracle:
        np.testing.assert_array_equal(oracle.images[0].asarray(), stored)
    with open_path(tmp_path / "a.lif") as source:
        same(source, stored.transpose([axes.index(a) for a in "TCZYX"]))
        assert source.info.axes == "tczyx"
        assert source.info.chunks == (1, 4 if axes[-1] == "C" else 1, 1, 1, 13)


def test_colours_are_red_green_blue(tmp_path, open_path, same):
    stored = pixels((9, 7, 3), "uint8")
    write_lif(tmp_path / "a.lif", lif_image("rgb", stored, "YXC", tags=(3, 2, 1)))
    with open_path(tmp_path / "a.lif") as source:
        same(source, stored[..., ::-1].transpose(2, 0, 1)[None, :, None])
        assert source.info.channels == ("red", "green", "blue")


def test_steps_of_a_wavelength_are_channels(tmp_path, open_path, same):
    stored = pixels((2, 3, 5, 9, 7))
    image = lif_image("sweep", stored, "CEZYX", names=("Red", "Red"), lengths={"E": 2e-8})
    write_lif(tmp_path / "a.lif", image)
    with open_path(tmp_path / "a.lif") as source:
        same(source, stored.reshape(1, 6, 5, 9, 7))
        assert source.info.channels[:4] == (
            "Red 500 nm",
            "Red 510 nm",
            "Red 520 nm",
            "Red 500 nm_2",
        )


def test_what_the_xml_says(tmp_path, open_path):
    image = lif_image(
        "one",
        pixels((3, 2, 5, 11, 21)),
        "TCZYX",
        names=("Green", "Green"),
        lengths={"X": 10e-6, "Y": 5e-6, "Z": -4e-6, "T": 9.0},
        tiles=((1e-6, 2e-6, 3e-6),),
        dye="Alexa 488",
    )
    write_lif(tmp_path / "a.lif", image)
    with open_path(tmp_path / "a.lif") as source:
        info = source.info
    assert info.channels == ("Alexa 488", "Green")
    assert info.pixel_size_um == pytest.approx((1.0, 0.5, 0.5))
    assert info.time_step_s == pytest.approx(4.5)
    assert info.origin_um == pytest.approx((1.0, 2.0, 3.0))


def test_images_and_stage_positions_become_images(tmp_path, same):
    mosaic, plain = pixels((2, 8, 9)), pixels((6, 7))
    tiles = ((0.0, 1e-6, 2e-6), (0.0, 1e-6, 8e-6))
    path = tmp_path / "a.lif"
    write_lif(
        path, lif_image("scan", mosaic, "MYX", tiles=tiles), lif_image("Series/2", plain, "YX")
    )
    specs = listed(path)
    assert [spec.name for spec in specs] == ["a_scan_m0", "a_scan_m1", "a_Series-2"]
    for spec, want in zip(specs, [mosaic[0], mosaic[1], plain], strict=True):
        with open_source(spec) as source:
            same(source, want[None, None, None])
    with open_source(specs[1]) as source:
        assert source.info.origin_um == pytest.approx((0, 1, 8))
    with pytest.raises(UnreadableError, match="holds 3 images"):
        open_source(SourceSpec("lif", str(path), "a"))
    with pytest.raises(UnreadableError, match="no image 3"):
        open_source(SourceSpec("lif", str(path), "a", "3"))


def test_names_that_are_alike_become_numbers(tmp_path):
    path = tmp_path / "a.lif"
    write_lif(path, *(lif_image(name, pixels((4, 4)), "YX") for name in ("b", "B", "c")))
    assert [spec.name for spec in listed(path)] == ["a_s0", "a_s1", "a_s2"]


def test_the_only_image_is_called_as_its_file(tmp_path):
    write_lif(tmp_path / "a.lif", lif_image("Series001", pixels((4, 4)), "YX"))
    assert listed(tmp_path / "a.lif") == [SourceSpec("lif", str(tmp_path / "a.lif"), "a")]


@pytest.mark.parametrize("lost", [1, 3000, 4141, 4300])
def test_a_cut_file_is_refused(tmp_path, lost):
    """However much is missing, the images behind the cut are named, never left out."""
    path = tmp_path / "a.lif"
    write_lif(path, *(lif_image(name, pixels((64, 32)), "YX") for name in "bc"))
    path.write_bytes(path.read_bytes()[:-lost])
    assert len(listed(path)) == 2
    with pytest.raises(DamageError, match="is cut off"):
        open_source(listed(path)[1])


def test_a_block_that_is_too_small_is_refused(tmp_path, open_path):
    element, data, block = lif_image("one", pixels((8, 8)), "YX")
    write_lif(tmp_path / "a.lif", (element, data[:-2], block))
    with pytest.raises(DamageError, match="its block has 126"):
        open_path(tmp_path / "a.lif")


def test_what_is_not_read_is_refused(tmp_path, open_path):
    write_lif(tmp_path / "a.lif", lif_image("turned", pixels((3, 8, 8)), "AYX"))
    with pytest.raises(UnreadableError, match="rotation of size 3"):
        open_path(tmp_path / "a.lif")
    write_lif(tmp_path / "b.lif", lif_image("line", pixels((3, 8)), "ZX"))
    with pytest.raises(UnreadableError, match="scans of lines"):
        open_path(tmp_path / "b.lif")
    (tmp_path / "c.lif").write_bytes(b"no Leica file at all")
    with pytest.raises(UnreadableError, match="no Leica file"):
        open_path(tmp_path / "c.lif")
    write_lif(tmp_path / "d.lif")
    with pytest.raises(UnreadableError, match="without an image"):
        listed(tmp_path / "d.lif")


def test_an_image_without_a_name(tmp_path):
    path = tmp_path / "a.lif"
    write_lif(path, lif_image("one", pixels((4, 4)), "YX"))
    right, wrong = (f'Element {key}="one"'.encode("utf-16-le") for key in ("Name", "Nome"))
    path.write_bytes(path.read_bytes().replace(right, wrong))
    with pytest.raises(UnreadableError, match="its XML lacks 'Name'"):
        listed(path)


def test_long_names_of_images_fit(tmp_path):
    path = tmp_path / "a.lif"
    names = ("細胞核" * 27, "細胞核" * 27 + "2", "two")
    write_lif(path, *(lif_image(name, pixels((4, 4)), "YX") for name in names))
    found = [spec.name for spec in listed(path)]
    assert len(set(found)) == 3
    assert max(len(name.encode()) for name in found) <= 102
    assert found[0].startswith("a_細胞核")


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ('BytesInc="18"', 'BytesInc="-8"', "its dimension 2 has steps of -8 bytes"),
        ('BytesInc="18"', 'BytesInc="00"', "its dimension 2 has steps of 0 bytes"),
        ('BytesInc="2"', 'BytesInc="1"', "its pixels are 1 bytes apart, and uint16 at byte 0"),
        ('LUTName="" IsLUTInverted="0" BytesInc="0"', 'LUTName="" BytesInc="-9"', "byte -9"),
        ('MemoryBlockID="MemBlock_one"', 'MemoryBlockXX="MemBlock_one"', "one are not in it"),
    ],
)
def test_places_that_cannot_be(tmp_path, open_path, right, wrong, said):
    path = tmp_path / "a.lif"
    element, data, block = lif_image("one", pixels((8, 9)), "YX")
    assert right in element
    write_lif(path, (element.replace(right, wrong), data, block))
    with pytest.raises((DamageError, UnreadableError), match=said):
        open_path(path)
