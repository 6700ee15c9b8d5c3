"""The tilewright command itself, as a user starts it: server, workers, tables and all."""

import subprocess
import sys
from pathlib import Path

from _peer import main
from _tilewright import recipe, result


def run(args):
    scratch, out = Path(args.scratch), Path(args.out)
    command = [str(Path(sys.executable).parent / "tilewright"), "run"]
    command += [str(recipe(args.job, scratch)), str(Path(args.image).parent), str(out)]
    command += ["--workers", str(args.workers)]
    status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr).returncode
    if status != 0:
        sys.exit(f"tilewright run ended with status {status}")
    return result(out, args.job)


if __name__ == "__main__":
    main(run)
