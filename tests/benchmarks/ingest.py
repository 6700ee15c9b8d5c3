"""Reading large files of microscopes: speed beside the bare library, memory beside the plan.

python tests/benchmarks/ingest.py [KIND ...] [--size 8192] [--dims 2d]

Each kind of file is written once and read in processes of their own: by its library alone, whole
plane after whole plane, brought to (C, Y, X); by our source in the order of ingest; and by the
whole ingest, which also writes the OME-Zarr. Times are CPU seconds of one thread. Exit status 1 if
a peak is above its plan.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "sources"), str(HERE.parents[1])]

BYTES_PER_WORKER = 3 * 2**30


def picture(size: int, channels: int, dtype: str) -> np.ndarray:
    """Smooth, with a little noise, of shape (size, size, C)."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:size, :size].astype("uint32")
    bands = [((y // 7 + x * (k + 2) // 9) % 200) + rng.integers(0, 8, (size, size), "uint8")
             for k in range(channels)]  # fmt: skip
    scale = 1 if dtype == "uint8" else 20
    return (np.stack(bands, axis=-1) * scale).astype(dtype)


def write_czi(path: Path, size: int, codec: str) -> None:
    from czi_writer import Tile
    from czi_writer import write_czi as write

    image, side, step = picture(size, 1, "uint16"), 2048, 1843
    tiles = [
        Tile(image[y : y + side, x : x + side], y, x, n, {"C": 0}, codec)
        for n, (y, x) in enumerate(
            (y, x) for y in range(0, size, step) for x in range(0, size, step)
        )
    ]
    write(path, *tiles)


def write_nd2(path: Path, size: int, compressed: bool) -> None:
    from nd2_writer import write_nd2 as write

    image = picture(size // 4, 2, "uint16")
    write(path, np.stack([image + z for z in range(16)]), "Z", compressed)


def write_lif(path: Path, size: int) -> None:
    from lif_writer import lif_image
    from lif_writer import write_lif as write

    image = picture(size // 4, 2, "uint16").transpose(2, 0, 1)
    write(path, lif_image("one", np.stack([image + z for z in range(16)], axis=1), "CZYX"))


def write_dv(path: Path, size: int) -> None:
    from dv_writer import write_dv as write

    image = picture(size // 4, 2, "uint16").transpose(2, 0, 1)
    write(path, np.stack([image + z for z in range(16)], axis=1)[None])


def write_slide(path: Path, size: int, compression: object) -> None:
    from slide_writers import write_ndpi, write_svs

    image = picture(size, 3, "uint8")
    if path.suffix == ".ndpi":
        write_ndpi(path, [image], interval_px=1024)
    else:
        write_svs(path, image, compression)


def write_jpeg(path: Path, size: int) -> None:
    from PIL import Image

    Image.fromarray(picture(size, 3, "uint8")).save(path, quality=90)


def bare_czi(path: str) -> Iterator[np.ndarray]:
    from pylibCZIrw import czi

    with czi.open_czi(path) as file:
        yield np.moveaxis(file.read(plane={"C": 0}), 2, 0)


def bare_nd2(path: str) -> Iterator[np.ndarray]:
    import nd2

    with nd2.ND2File(path) as file:
        for number in range(16):
            yield file.read_frame(number)


def bare_lif(path: str) -> Iterator[np.ndarray]:
    import liffile

    with liffile.LifFile(path) as file:
        yield file.images[0].asarray()


def bare_dv(path: str) -> Iterator[np.ndarray]:
    import mrc

    with mrc.DVFile(path) as file:
        yield file.asarray()


def bare_tiff(path: str) -> Iterator[np.ndarray]:
    import tifffile

    yield np.moveaxis(tifffile.imread(path, series=0, maxworkers=1), 2, 0)


def bare_jpeg(path: str) -> Iterator[np.ndarray]:
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    yield np.moveaxis(np.asarray(Image.open(path)), 2, 0)


#: Kind -> file name, its writer, and the bare reader.
KINDS: dict[str, tuple[str, Callable[[Path, int], None], Callable[[str], Iterator[np.ndarray]]]] = {
    "czi-plain": ("a.czi", lambda p, n: write_czi(p, n, "none"), bare_czi),
    "czi-zstd": ("b.czi", lambda p, n: write_czi(p, n, "zstd1-hilo"), bare_czi),
    "czi-jpegxr": ("c.czi", lambda p, n: write_czi(p, n, "jpegxr"), bare_czi),
    "nd2-plain": ("a.nd2", lambda p, n: write_nd2(p, n, False), bare_nd2),
    "nd2-zip": ("b.nd2", lambda p, n: write_nd2(p, n, True), bare_nd2),
    "lif": ("a.lif", write_lif, bare_lif),
    "dv": ("a.dv", write_dv, bare_dv),
    "svs-jpeg": ("a.svs", lambda p, n: write_slide(p, n, "jpeg"), bare_tiff),
    "svs-jp2k": ("b.svs", lambda p, n: write_slide(p, n // 2, 33005), bare_tiff),
    "ndpi": ("a.ndpi", lambda p, n: write_slide(p, n, None), bare_tiff),
    "jpeg": ("a.jpg", write_jpeg, bare_jpeg),
}


def measured(target: Callable[..., dict[str, float]], *args: object) -> dict[str, float]:
    """Run it in a process of its own, so that its peak is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(target, args)


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def write_file(kind: str, path: str, size: int) -> dict[str, float]:
    # Not in the main process: children would inherit its peak.
    KINDS[kind][1](Path(path), size)
    return {}


def read_bare(kind: str, path: str) -> dict[str, float]:
    next(iter(KINDS[kind][2](path)), None)  # what is loaded at the first time
    begun = time.process_time()
    for pixels in KINDS[kind][2](path):
        np.ascontiguousarray(pixels)
    return {"seconds": time.process_time() - begun, "peak": peak_bytes()}


def _planned(path: str, folder: str, dims: str):
    from pipeline.admission import admit
    from pipeline.plan import Machine, plan_image
    from pipeline.recipe import Recipe
    from pipeline.run_folder import RunFolder
    from pipeline.sources import discover

    (item,) = admit(discover(Path(path)))
    recipe = Recipe.model_validate(
        {
            "segment": {"method": "threshold", "foreground": {"value": 1}},
            "source": {"channels": [0], "dims": dims},
            "measure": {"quality": False},
        }
    )
    return plan_image(item, recipe, RunFolder(Path(folder)), Machine(1, BYTES_PER_WORKER), 512)


def read_ours(path: str, folder: str, dims: str) -> dict[str, float]:
    """The reads of ingest, without writing."""
    from pipeline.read_order import ReadOrder
    from pipeline.shared_blocks import plan_reading
    from pipeline.view import opened

    plan = _planned(path, folder, dims)
    pyramid = plan.output.image
    grid, reading = pyramid.grid(), plan_reading(pyramid, plan.job.hold_bytes)
    held, together = reading.hold_bytes, reading.together
    orders = [
        ReadOrder(plan.job, numbers, grid, pyramid, False, "", held, together)
        for numbers in reading.batches(range(len(grid)), 4)
    ]

    def read() -> None:
        for order in orders:
            _read(order, grid, plan)

    read()  # what is loaded at the first time, as for the bare reader
    opened.cache_clear()
    begun = time.process_time()
    read()
    return {"seconds": time.process_time() - begun, "peak": peak_bytes()}


def _read(order, grid, plan) -> None:
    source = _source(plan)
    source.hold(order.hold_bytes, once=True)
    region = order._regions(source)
    for number in order.numbers:
        region(grid.tile(number))
    source.hold(0)


def _source(plan):
    from pipeline.view import opened

    return opened(plan.job.source, plan.job.plan)


def ingest(path: str, folder: str, dims: str) -> dict[str, float]:
    from pipeline.ingest import ingest as read_image
    from pipeline.ledger import MemoryLedger
    from pipeline.steps import Steps, perform_here

    plan = _planned(path, folder, dims)
    plan.output.prepare()
    begun = time.process_time()
    read_image(plan.job, plan.output, Steps(plan.job.work, perform_here, MemoryLedger(), 4))
    seconds = time.process_time() - begun
    pixels = np.dtype(plan.job.info.dtype).itemsize * float(np.prod(plan.job.info.shape))
    return {
        "seconds": seconds,
        "peak": peak_bytes(),
        "planned": plan.peak_bytes,
        "bytes": pixels,
        "hold": plan.job.hold_bytes,
    }


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--dims", choices=("2d", "3d"), default="2d")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    print(
        f"{'kind':11} {'MB':>5} {'bare MB/s':>9} {'ours MB/s':>9} {'ours/bare':>9} "
        f"{'ingest MB/s':>11} {'peak MB':>7} {'plan MB':>7} {'held MB':>7}"
    )
    rows, broken = [], False
    for kind in given.kinds:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, KINDS[kind][0])
            measured(write_file, kind, str(path), given.size)
            bare = measured(read_bare, kind, str(path))
            ours = measured(read_ours, str(path), f"{folder}/read", given.dims)
            again = measured(read_bare, kind, str(path))
            whole = measured(ingest, str(path), f"{folder}/out", given.dims)
        size, seconds = whole["bytes"] / 1e6, min(bare["seconds"], again["seconds"])
        rows.append({"kind": kind, "bare": bare, "again": again, "ours": ours, "ingest": whole})
        broken |= whole["peak"] > whole["planned"]
        print(
            f"{kind:11} {size:5.0f} {size / seconds:9.0f} {size / ours['seconds']:9.0f} "
            f"{seconds / ours['seconds']:9.2f} {size / whole['seconds']:11.0f} "
            f"{whole['peak'] / 1e6:7.0f} {whole['planned'] / 1e6:7.0f} {whole['hold'] / 1e6:7.0f}",
            flush=True,
        )
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1))
    print("BROKEN: a peak is above its plan" if broken else "every peak is within its plan")
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
