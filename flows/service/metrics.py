"""What Prometheus may ask of the service; Prefect and Dask have metrics of their own."""

from __future__ import annotations

import base64
import json
import os
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flows.service.known import known_outputs
from flows.service.settings import Settings
from pipeline.errors import OutputError
from pipeline.manifest import Manifest

if TYPE_CHECKING:
    from prometheus_client import Metric

#: States of runs that are counted.
STATES = ("SCHEDULED", "PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", "CRASHED")


def metrics_text(settings: Settings) -> bytes:
    """All metrics in Prometheus' text format."""
    from prometheus_client import generate_latest

    # What is there now is collected once: a registry would keep it.
    return generate_latest(_Collector(settings))


@dataclass(frozen=True, slots=True)
class _Collector:
    settings: Settings

    def collect(self) -> Iterator[Metric]:
        return _metrics(self.settings)


def _metrics(settings: Settings) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    images = GaugeMetricFamily(
        "tilewright_images", "Images of a run's folder.", labels=["out", "label", "status"]
    )
    for folder, label in known_outputs(settings.home):
        try:
            # Not those in a store: asking it must not keep Prometheus waiting.
            manifest = Manifest(folder.records, write=False)
        except OutputError:
            continue
        try:
            for status, count in manifest.counts().items():
                images.add_metric([str(folder.root), label, status], count)
        finally:
            manifest.close()
    yield images
    free = GaugeMetricFamily(
        "tilewright_disk_free_bytes", "What is free on the disk of an output root.", labels=["root"]
    )
    for root in settings.outputs:
        if isinstance(root, Path) and root.exists():
            found = os.statvfs(root)
            free.add_metric([str(root)], found.f_bavail * found.f_frsize)
    yield free
    runs = GaugeMetricFamily("tilewright_runs", "Runs, by Prefect's state.", labels=["state"])
    server = GaugeMetricFamily("tilewright_server_up", "Whether Prefect's server answers.")
    try:
        for state in STATES:
            runs.add_metric([state.lower()], _count(settings, state))
        server.add_metric([], 1)
    except (OSError, ValueError):
        server.add_metric([], 0)
    yield runs
    yield server


def _count(settings: Settings, state: str) -> int:
    """Runs in a state, asked of Prefect's API without importing Prefect."""
    body = {"flow_runs": {"state": {"type": {"any_": [state]}}}}
    headers = {"Content-Type": "application/json"}
    if settings.server.password is not None:
        secret = settings.server.password.get_secret_value().encode()
        headers["Authorization"] = f"Basic {base64.b64encode(secret).decode()}"
    url = f"{settings.server.api_url}/flow_runs/count"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=5) as answer:
        return int(json.load(answer))
