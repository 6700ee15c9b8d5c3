"""The whole image in memory through scipy.ndimage.label: what a script would do."""

import time

import zarr
from _peer import main
from jobs import CHUNK, THRESHOLD
from scipy import ndimage


def run(args):
    image = zarr.open_array(args.image, mode="r")[:]
    started = time.perf_counter()
    labels, _ = ndimage.label(image > THRESHOLD)
    kernel_s = time.perf_counter() - started
    del image
    zarr.create_array(args.out, data=labels, chunks=(CHUNK, CHUNK))
    return {"kernel_s": kernel_s, "package": "scipy"}


if __name__ == "__main__":
    main(run)
