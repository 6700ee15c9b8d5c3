"""PNG and JPEG: what is stored, refused when too large, damage where it is."""

from __future__ import annotations

import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from pipeline.box import Box
from pipeline.errors import DamageError, UnreadableError
from pipeline.sources import picture


def noise(shape, dtype="uint8"):
    return np.random.default_rng(2).integers(0, np.iinfo(dtype).max, shape, dtype=dtype)


def whole(source):
    return source.read(0, range(source.info.shape[1]), Box.whole(source.info.shape[2:]))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_depths_and_channels(tmp_path, open_path, same, dtype, channels):
    image = noise((31, 47, channels), dtype)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(image.squeeze()))
    with open_path(tmp_path / "a.png") as source:
        same(source, image.transpose(2, 0, 1)[None, :, None])
        names = {
            1: ("0",),
            2: ("gray", "alpha"),
            3: ("red", "green", "blue"),
            4: ("red", "green", "blue", "alpha"),
        }
        assert source.info.channels == names[channels]
        assert source.info.chunks == source.info.shape
        assert source.info.axes == ("yx" if channels == 1 else "cyx")


def test_palettes_become_colours(tmp_path, open_path, same):
    colours = Image.fromarray(noise((20, 30, 3)))
    palette = colours.quantize(16)
    palette.save(tmp_path / "a.png")
    with open_path(tmp_path / "a.png") as source:
        same(source, np.asarray(palette.convert("RGB")).transpose(2, 0, 1)[None, :, None])
    palette.save(tmp_path / "b.png", transparency=3)
    with open_path(tmp_path / "b.png") as source:
        want = np.asarray(Image.open(tmp_path / "b.png").convert("RGBA"))
        same(source, want.transpose(2, 0, 1)[None, :, None])


def test_bilevel_is_zero_and_one(tmp_path, open_path, same):
    image = noise((20, 30)) > 99
    Image.fromarray(image).save(tmp_path / "a.png")
    with open_path(tmp_path / "a.png") as source:
        same(source, image[None, None, None].astype("uint8"))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_equals_pillow(tmp_path, open_path, same, mode):
    Image.fromarray(noise((40, 50, 3))).convert(mode).save(tmp_path / "a.jpg")
    want = np.asarray(Image.open(tmp_path / "a.jpg")).reshape(40, 50, -1)
    with open_path(tmp_path / "a.jpg") as source:
        same(source, want.transpose(2, 0, 1)[None, :, None])


def test_the_content_tells_the_kind(tmp_path, open_path, same):
    Image.fromarray(noise((20, 30))).save(tmp_path / "a.jpg", format="PNG")
    with open_path(tmp_path / "a.jpg") as source:
        same(source, noise((20, 30))[None, None, None])


def test_decoded_once(tmp_path, open_path, monkeypatch):
    Image.fromarray(noise((20, 30))).save(tmp_path / "a.png")
    calls = []
    decode = picture.PictureSource._decode
    monkeypatch.setattr(
        picture.PictureSource, "_decode", lambda self: (calls.append(1), decode(self))[1]
    )
    with open_path(tmp_path / "a.png") as source:
        for x in range(5):
            source.read(0, [0], Box((0, 0, x), (1, 5, x + 5)))
    assert calls == [1]


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_cut_pictures_are_damage(tmp_path, open_path, suffix, share, dtype):
    path = tmp_path / f"a.{suffix}"
    if suffix == "png":
        path.write_bytes(imagecodecs.png_encode(noise((99, 99), dtype)))
    else:
        Image.fromarray(noise((99, 99))).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises((DamageError, UnreadableError)) as caught:
        whole(open_path(path))
    assert caught.value.path == str(path)


@pytest.mark.parametrize("at", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_one_wrong_byte_in_a_png_is_damage(tmp_path, open_path, at, dtype):
    path = tmp_path / "a.png"
    data = bytearray(imagecodecs.png_encode(noise((99, 99), dtype), level=0))
    data[int(len(data) * at)] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamageError):
        whole(open_path(path))


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"II*\0"])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_no_pictures(tmp_path, open_path, content, suffix):
    (tmp_path / f"a.{suffix}").write_bytes(content)
    with pytest.raises(UnreadableError):
        open_path(tmp_path / f"a.{suffix}")


def test_a_bomb_is_refused_by_its_header(tmp_path, open_path):
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 9)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks
    )
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    with pytest.raises(UnreadableError, match=r"3600000000 bytes .*the limit .* 2147483648.*TIFF"):
        open_path(tmp_path / "a.png")


def test_pillows_own_limit_does_not_matter(tmp_path, open_path, same, monkeypatch):
    Image.fromarray(noise((20, 30))).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with open_path(tmp_path / "a.png") as source:
        same(source, noise((20, 30))[None, None, None])


def test_an_animation_is_refused(tmp_path, open_path):
    frames = [Image.fromarray(noise((20, 30)) // n) for n in (1, 2, 3)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    with pytest.raises(UnreadableError, match="3 frames"):
        open_path(tmp_path / "a.png")
