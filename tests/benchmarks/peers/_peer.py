"""What the peer scripts share: arguments in, one line of JSON out."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

Peer = Callable[[argparse.Namespace], dict[str, Any]]


def main(peer: Peer) -> None:
    """Parse the arguments, time `peer` without imports of this file, print its record.

    `peer` returns a dict. "package" names the distribution measured, "labels" the label array
    if it is not --out, "kernel_s" the seconds of the in-memory kernel alone.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--job", choices=["J1", "J2"], required=True)
    parser.add_argument("--image", required=True, help="zarr array of shape (Y, X)")
    parser.add_argument("--out", required=True, help="zarr array to write the labels to")
    parser.add_argument("--scratch", required=True, help="folder for anything else")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--variant", default="")
    args = parser.parse_args()
    started = time.perf_counter()
    record = {"labels": args.out, **peer(args)}
    record.setdefault("work_s", time.perf_counter() - started)
    record["version"] = importlib.metadata.version(record["package"])
    print(json.dumps(record))
