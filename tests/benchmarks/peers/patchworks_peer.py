"""patchworks.tile_process with the same kernel per tile, threads.

J1 needs no overlap and joins what touches. J2 has an overlap of HALO and joins by IoU of the
overlap zones, which its documentation advises for dense cells; `--variant touch` joins
whatever touches, its default.
"""

import dask.array as da
import patchworks
from _peer import main
from jobs import HALO, KERNELS


def run(args):
    kernel = KERNELS[args.job]
    patchworks.tile_process(
        da.from_zarr(args.image),
        lambda tile: kernel(tile).astype("int32", copy=False),
        overlap=0 if args.job == "J1" else HALO,
        stitch="touch" if args.job == "J1" else args.variant or "iou",
        max_workers=args.workers,
        write_to=args.out,
        stage_dir=args.scratch,
        progress=False,
    )
    return {"labels": f"{args.out}/labels", "package": "patchworks"}


if __name__ == "__main__":
    main(run)
