"""Choose a part of a collection to learn from, as links: images of one kind and their labels.

    python docs/make_training_set.py COLLECTION PART OUT --modality "fluorescence nuclei"

COLLECTION holds MANIFEST.tsv, which names the kind (`modality`) and the labels (`ground_truth`) of
each image; PART is the beginning of their paths, such as `nuclei/train`. OUT gets `images` and
`labels`, as `tilewright train` takes them.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("collection", type=Path)
    parser.add_argument("part")
    parser.add_argument("out", type=Path)
    parser.add_argument("--modality", required=True)
    given = parser.parse_args()
    with (given.collection / "MANIFEST.tsv").open(newline="") as lines:
        rows = [
            row
            for row in csv.DictReader(lines, delimiter="\t")
            if row["path"].startswith(f"{given.part}/images/") and row["modality"] == given.modality
        ]
    for row in rows:
        for kind, path in (("images", row["path"]), ("labels", row["ground_truth"])):
            link = given.out / kind / Path(path).name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to((given.collection / path).resolve())
    print(f"{len(rows)} images of {given.modality} in {given.out}")


if __name__ == "__main__":
    main()
