"""What embedded workers are forked with: named here, imported only there."""

from __future__ import annotations

#: Loaded once by the fork server and shared by all workers.
PRELOAD = (
    "pipeline.methods.threshold",
    "pipeline.methods.watershed",
    "pipeline.plan",
    "workers.tasks",
    "workers.warm",
)
