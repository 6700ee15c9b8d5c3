"""bioimage-py, threads in one process.

J1 is its own out-of-core `segmentation.label`. J2 is `segmentation.stitch_segmentation` with
the same kernel per tile: overlaps vote, a multicut joins.
"""

import bioimage_py
import zarr
from _peer import main
from jobs import CHUNK, HALO, THRESHOLD, split


def run(args):
    image = zarr.open_array(args.image, mode="r")
    labels = zarr.create_array(args.out, shape=image.shape, chunks=(CHUNK, CHUNK), dtype="uint64")
    if args.job == "J1":
        bioimage_py.segmentation.label(
            image,
            labels,
            threshold=THRESHOLD,
            block_shape=(CHUNK, CHUNK),
            num_workers=args.workers,
        )
    else:
        bioimage_py.segmentation.stitch_segmentation(
            image,
            lambda tile, _: split(tile),
            tile_shape=(CHUNK, CHUNK),
            tile_overlap=(HALO, HALO),
            output=labels,
            num_workers=args.workers,
        )
    return {"package": "bioimage-py"}


if __name__ == "__main__":
    main(run)
