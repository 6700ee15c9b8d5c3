"""dask_image.ndmeasure.label on a Dask array, threaded scheduler."""

import dask
import dask.array as da
from _peer import main
from dask_image.ndmeasure import label
from jobs import THRESHOLD


def run(args):
    with dask.config.set(scheduler="threads", num_workers=args.workers):
        labels, _ = label(da.from_zarr(args.image) > THRESHOLD)
        labels.to_zarr(args.out)
    return {"package": "dask-image"}


if __name__ == "__main__":
    main(run)
