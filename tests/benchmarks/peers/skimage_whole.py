"""The whole image in memory, one thread: J1 by skimage.measure.label, J2 by `jobs.split`.

Its labels are the reference that every other row is compared with.
"""

import time

import numpy as np
import zarr
from _peer import main
from jobs import CHUNK, THRESHOLD, split


def run(args):
    image = zarr.open_array(args.image, mode="r")[:]
    started = time.perf_counter()
    if args.job == "J1":
        from skimage.measure import label

        labels = label(image > THRESHOLD, connectivity=1)
    else:
        labels = split(image)
    kernel_s = time.perf_counter() - started
    labels = labels.astype(np.uint32)
    zarr.create_array(args.out, data=labels, chunks=(CHUNK, CHUNK))
    return {"kernel_s": kernel_s, "package": "scikit-image"}


if __name__ == "__main__":
    main(run)
