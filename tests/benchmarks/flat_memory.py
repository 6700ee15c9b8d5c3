"""Peak memory of the workers at 4096^2 and 16384^2, against the plan: flat, and never above it.

python tests/benchmarks/flat_memory.py [J1 J2 J3]    exit status 1 if a limit is broken

"largest" is the largest of all processes: for J3 the one that merges the graph.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "peers")]

from _tilewright import recipe, result  # noqa: E402
from inputs import make_input  # noqa: E402

SIZES = (4096, 16384)
#: The larger image may take this much more.
TOLERANCE = 1.10


def measure(job: str, size: int, folder: Path) -> tuple[float, float, float, float]:
    """Measured and planned peak of a worker, and of the largest process, in MB; wall seconds."""
    image = make_input(folder / f"{size}.ome.zarr", size).parent
    out = folder / f"{job}-{size}"
    command = [Path(sys.executable).parent / "tilewright", "run", recipe(job, folder), image, out]
    begun = time.perf_counter()
    process = subprocess.Popen(
        [*map(str, command), "--workers", "2"], stdout=subprocess.DEVNULL, start_new_session=True
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{command} ended with status {os.waitstatus_to_exitcode(status)}")
    found = result(out, job)
    peaks = float(found["worker_peak_mb"]), float(found["worker_planned_mb"])
    return *peaks, usage.ru_maxrss * 1024 / 1e6, time.perf_counter() - begun


def main() -> int:
    broken = False
    with tempfile.TemporaryDirectory() as name:
        for job in sys.argv[1:] or ("J1", "J2", "J3"):
            # Kernels that are not compiled yet would be, in the workers: memory of the compiler.
            measure(job, SIZES[-1], Path(name))
            shutil.rmtree(Path(name) / f"{job}-{SIZES[-1]}")
            peaks = {size: measure(job, size, Path(name)) for size in SIZES}
            for size, (peak, planned, largest, seconds) in peaks.items():
                print(
                    f"{job} {size:6d}: peak {peak:5.0f} MB, planned {planned:5.0f} MB, "
                    f"largest {largest:5.0f} MB, {seconds:4.0f} s",
                    flush=True,
                )
                broken |= peak > planned
            small, large = (peaks[size][0] for size in SIZES)
            print(f"{job} grows by {100 * (large / small - 1):+.1f} %")
            broken |= large > TOLERANCE * small
    print("BROKEN" if broken else "flat, and within the plan")
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
