"""No block of a file is unpacked twice by ingest, however blocks and shards lie to each other."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from pipeline import shared_blocks
from pipeline.admission import Admitted, admit
from pipeline.errors import PlanError
from pipeline.ingest import ingest as read_image
from pipeline.ledger import MemoryLedger
from pipeline.plan import Machine, plan_image
from pipeline.pyramid import SHARD, Pyramid
from pipeline.recipe import Recipe
from pipeline.run_folder import RunFolder
from pipeline.shared_blocks import Reading, plan_reading
from pipeline.sources import SourceSpec, czi, nd2_frames
from pipeline.sources.formats import format_of
from pipeline.sources.picture import PictureSource
from pipeline.sources.seen import PLAIN, Seen
from pipeline.sources.tiff_decode import PageDecoder
from pipeline.steps import Steps, perform_here

sys.path.insert(0, str(Path(__file__).parent / "sources"))

from czi_writer import Tile, write_czi
from nd2_writer import write_nd2
from slide_writers import tissue, write_ndpi

MACHINE = Machine(1, 8 * 2**30)


@pytest.fixture
def small_shards(monkeypatch):
    """Shards of 64 px, so that small images have many."""
    monkeypatch.setitem(SHARD, 2, (1, 64, 64))
    monkeypatch.setitem(SHARD, 3, (8, 32, 32))


def pixels(shape, dtype="uint8"):
    return np.random.default_rng(9).integers(0, 250, shape).astype(dtype)


def ingest(path, folder, dims="2d", machine=MACHINE, room=None, seen=PLAIN):
    """Copy an image as a run would, in one process; gives the copy of shape (T, C, Z, Y, X).

    `room` is what a worker may hold, instead of what the plan says.
    """
    spec = SourceSpec(format_of(path.name).reader, str(path), path.stem, seen=seen)
    (item,) = admit([spec])
    assert isinstance(item, Admitted), item
    recipe = Recipe.model_validate(
        {
            "segment": {"method": "threshold", "foreground": {"value": 1}},
            "source": {"channels": [0], "dims": dims},
        }
    )
    plan = plan_image(item, recipe, RunFolder(folder), machine, 64)
    job = plan.job if room is None else replace(plan.job, hold_bytes=room)
    plan.output.prepare()
    assert plan.output.image is not None
    digests, _ = read_image(job, plan.output, Steps(job.work, perform_here, MemoryLedger(), 3))
    assert len(digests) >= len(plan.output.image.grid())
    copy = zarr.open_array(f"{plan.output.image.path}/0", mode="r")[...]
    return copy.reshape(item.info.shape), plan


@pytest.fixture
def unpacked(monkeypatch):
    """Counts every block that is unpacked, by any reader."""
    seen = Counter()

    def count(module, name, key):
        original = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *a, **k: (seen.update([key(*a)]), original(*a, **k))[1]
        )

    count(PageDecoder, "decode", lambda self, index, what: (self.page.index, index))
    count(czi, "unpack", lambda path, files, block, kind: block.number)
    count(nd2_frames.Frames, "unpacked", lambda self, number: number)
    count(PictureSource, "_decode", lambda self: "picture")
    return seen


def once(unpacked, blocks):
    assert len(unpacked) == blocks
    assert set(unpacked.values()) == {1}


@pytest.mark.parametrize(
    ("options", "blocks"),
    [
        ({"tile": (64, 64)}, 5 * 4),
        ({"tile": (16, 32)}, 19 * 8),
        ({"tile": (48, 80)}, 7 * 4),  # no border in common
        ({"tile": (128, 128)}, 3 * 2),
        ({"tile": (304, 256)}, 1),
        ({"rowsperstrip": 7}, 43),
        ({"rowsperstrip": 64}, 5),
        ({"rowsperstrip": 300}, 1),
    ],
    ids=str,
)
@pytest.mark.parametrize("planar", [False, True])
def test_tiff(tmp_path, small_shards, unpacked, monkeypatch, options, blocks, planar):
    """What a source keeps by itself must not be what makes it so."""
    monkeypatch.setattr("pipeline.sources.base.CACHE_BYTES", 1)
    image = pixels((3, 300, 250) if planar else (300, 250, 3))
    tifffile.imwrite(
        tmp_path / "a.tif",
        image,
        photometric="rgb",
        planarconfig="separate" if planar else "contig",
        compression="lzw",
        **options,
    )
    copy, _ = ingest(tmp_path / "a.tif", tmp_path / "out")
    np.testing.assert_array_equal(copy[0, :, 0], image if planar else image.transpose(2, 0, 1))
    once(unpacked, blocks * (3 if planar else 1))


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_picture(tmp_path, small_shards, unpacked, suffix):
    Image.fromarray(pixels((300, 250, 3))).save(tmp_path / f"a.{suffix}")
    ingest(tmp_path / f"a.{suffix}", tmp_path / "out")
    once(unpacked, 1)


def test_intervals_of_a_jpeg(tmp_path, small_shards, unpacked, monkeypatch):
    monkeypatch.setattr("pipeline.sources.base.CACHE_BYTES", 1)
    write_ndpi(tmp_path / "a.ndpi", [tissue(300, 250)], 80)
    ingest(tmp_path / "a.ndpi", tmp_path / "out")
    once(unpacked, 3)  # 32 blocks a row: an interval of 10 ends with one every 5 rows, 120 px


@pytest.mark.parametrize("dims", ["2d", "3d"])
def test_compressed_frames(tmp_path, small_shards, unpacked, dims):
    image = pixels((2, 20, 150, 130, 2), "uint16")
    write_nd2(tmp_path / "a.nd2", image, "TZ", compressed=True)
    copy, _ = ingest(tmp_path / "a.nd2", tmp_path / "out", dims)
    np.testing.assert_array_equal(copy, image.transpose(0, 4, 1, 2, 3))
    once(unpacked, 40)


@pytest.mark.parametrize("options", [{"rowsperstrip": 7}, {"tile": (48, 80)}], ids=str)
@pytest.mark.parametrize("project", ["max", "mean"])
def test_projected_planes(tmp_path, small_shards, unpacked, monkeypatch, project, options):
    """All planes pass for each read, so that shards are read together."""
    monkeypatch.setattr("pipeline.sources.base.CACHE_BYTES", 1)
    image = pixels((20, 150, 130), "uint16")
    tifffile.imwrite(
        tmp_path / "a.tif", image, compression="lzw", photometric="minisblack", **options
    )
    copy, _ = ingest(tmp_path / "a.tif", tmp_path / "out", seen=Seen(project=project))
    want = image.max(axis=0) if project == "max" else (2 * image.sum(axis=0) + 20) // 40
    np.testing.assert_array_equal(copy[0, 0, 0], want)
    once(unpacked, 20 * (22 if "rowsperstrip" in options else 8))


@pytest.mark.parametrize("side", [64, 80])
def test_a_mosaic_that_overlaps(tmp_path, small_shards, unpacked, side):
    """Also where its tiles are as large as shards."""
    places = itertools.product(range(4), range(3))
    tiles = [
        Tile(pixels((side, side, 1)), (side - 8) * y, (side - 8) * x, n, {"C": 0}, "zstd1")
        for n, (y, x) in enumerate(places)
    ]
    write_czi(tmp_path / "a.czi", *tiles)
    ingest(tmp_path / "a.czi", tmp_path / "out")
    once(unpacked, 12)


@pytest.mark.parametrize("room", [0, 1, 40_000, 140_000, 1 << 30])
def test_without_room_shards_are_read_together(tmp_path, small_shards, unpacked, room):
    """All pixels are right, and no block is unpacked more often than shards need it."""
    image = pixels((20, 100, 110), "uint16")
    tifffile.imwrite(
        tmp_path / "a.tif", image, compression="lzw", rowsperstrip=100, photometric="minisblack"
    )
    copy, _ = ingest(tmp_path / "a.tif", tmp_path / "out", "3d", room=room)
    np.testing.assert_array_equal(copy[0, 0], image)
    once_a_read = {0: 16, 1: 16, 40_000: 8, 140_000: 2, 1 << 30: 1}
    assert max(unpacked.values()) == once_a_read[room]


def test_every_shard_is_in_one_group_and_orders_hold_whole_groups():
    for chunks, packed, ndim in itertools.product(
        [(1, 1, 1, 240, 240), (1, 1, 1, 3, 9000), (1, 1, 3, 512, 700), (2, 1, 1, 9000, 9000)],
        [True, False],
        [2, 3],
    ):
        info = image_info((2, 2, 9, 9000, 9000), chunks, packed)
        pyramid = Pyramid("", "image", info, info.dtype, ndim, 1)
        for room in (0, 10**8, 1 << 40):
            reading = plan_reading(pyramid, room)
            every = [number for group in reading.groups for number in group]
            assert sorted(every) == list(range(len(pyramid.grid())))
            assert reading.hold_bytes <= min(room, shared_blocks.HOLD_LIMIT_BYTES)
            if not packed:
                assert reading == Reading(tuple((n,) for n in range(len(pyramid.grid()))))
            left = every[::3]
            orders = list(reading.batches(left, 4))
            assert sorted(n for order in orders for n in order) == sorted(left)
            of = {n: g for g, group in enumerate(reading.groups) for n in group}
            seen = Counter(group for order in orders for group in {of[n] for n in order})
            assert max(seen.values()) == 1


def image_info(shape, chunks, packed):
    from pipeline.image import ImageInfo

    names = tuple(str(c) for c in range(shape[1]))
    return ImageInfo(shape, "uint8", "tczyx", names, (None,) * 3, None, chunks, (None,) * 3, packed)


def test_blocks_that_end_with_shards_leave_the_work_to_many():
    info = image_info((1, 3, 1, 40_000, 40_000), (1, 3, 1, 512, 1024), True)
    pyramid = Pyramid("", "image", info, info.dtype, 2, 1)
    assert all(len(group) == 1 for group in plan_reading(pyramid, 1 << 40).groups)


def test_groups_without_common_borders_end_after_some_rows():
    """Tiles of 240 px never meet shards of 2048 px: 16 rows of shards are one order."""
    info = image_info((1, 3, 1, 100_000, 3000), (1, 3, 1, 240, 240), True)
    pyramid = Pyramid("", "image", info, info.dtype, 2, 1)
    reading = plan_reading(pyramid, 1 << 40)
    assert [len(group) for group in reading.groups] == [30, 30, 30, 8]


def test_a_picture_that_does_not_fit_is_refused(tmp_path):
    Image.fromarray(pixels((3000, 3000, 3))).save(tmp_path / "a.png")
    with pytest.raises(PlanError, match="allowed"):
        ingest(tmp_path / "a.png", tmp_path / "out", machine=Machine(1, 340 * 2**20))
