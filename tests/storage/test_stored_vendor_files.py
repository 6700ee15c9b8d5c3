"""Files of microscopes in buckets: those that are read by position, and those that want a disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from pipeline.box import Box
from pipeline.errors import UnreadableError
from pipeline.sources import expand, open_source
from pipeline.sources.base import SourceSpec
from tests.sources.czi_writer import Tile, write_czi
from tests.sources.dv_writer import write_dv
from tests.sources.lif_writer import lif_image, write_lif
from tests.sources.nd2_writer import write_nd2

PIXELS = np.random.default_rng(3).integers(0, 60000, (61, 83)).astype("u2")


def write(kind: str, path: Path) -> Path:
    if kind == "czi":
        tiles = [Tile(PIXELS[:, x : x + 50, None], 0, x, x, {"C": 0}) for x in (0, 33)]
        write_czi(path, *tiles)
    elif kind == "lif":
        write_lif(path, lif_image("a", PIXELS, "YX"))
    elif kind == "nd2":
        write_nd2(path, PIXELS[..., None])
    elif kind == "nd2-compressed":
        write_nd2(path, PIXELS[..., None], compressed=True)
    elif kind == "svs":
        tifffile.imwrite(path, PIXELS, tile=(16, 32), compression="zlib")
    return path


@pytest.mark.parametrize("kind", ["czi", "lif", "nd2", "nd2-compressed", "svs"])
def test_what_is_read_by_position_is_the_same_in_a_bucket(kind, bucket, behind, tmp_path):
    reader = {"svs": "tiff"}.get(kind, kind.partition("-")[0])
    here = write(kind, tmp_path / f"a.{kind.partition('-')[0]}")
    there = bucket / here.name
    there.write_bytes(here.read_bytes())
    behind(0.1, seed=1)
    boxes = [Box((0, 0, 0), (1, 61, 83)), Box((0, 17, 30), (1, 44, 71))]
    (local,), (stored,) = (expand(SourceSpec(reader, str(p), "a")) for p in (here, there))
    with open_source(local) as a, open_source(stored) as b:
        assert a.info == b.info
        for box in boxes:
            np.testing.assert_array_equal(a.read(0, [0], box), b.read(0, [0], box))


def test_what_wants_a_disk_says_so(bucket, tmp_path):
    write_dv(tmp_path / "a.dv", PIXELS[None, None, None])
    there = bucket / "a.dv"
    there.write_bytes((tmp_path / "a.dv").read_bytes())
    with pytest.raises(UnreadableError, match=r"Copy|copy|disk"):
        open_source(SourceSpec("dv", str(there), "a"))
