"""Names by which the parts of the service find each other in Prefect. Importing this is cheap."""

from __future__ import annotations

from typing import Literal, get_args

#: The work pool of all runs, and the tag of all deployments.
POOL = TAG = "tilewright"
Queue = Literal["urgent", "default", "background"]
#: Work queues of the pool, the first is served first.
QUEUES: tuple[str, ...] = get_args(Queue)
#: The flow that segments an archive, and its deployment for any recipe.
SEGMENT = "segment-dataset"
ANY = "any-recipe"
#: The deployment that compares labels with a truth.
SCORES = "labels-and-truth"
