"""What Prometheus may ask of the service; Prefect and Dask have metrics of their own."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator
from typing import TYPE_CHECKING

from flows.service.known import known_outputs
from flows.service.settings import Settings
from pipeline.errors import OutputError
from pipeline.run_folder import RunFolder

if TYPE_CHECKING:
    from prometheus_client import Metric

#: States of runs that are counted.
STATES = ("SCHEDULED", "PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", "CRASHED")


def metrics_text(settings: Settings) -> bytes:
    """All metrics in Prometheus' text format."""
    from prometheus_client import CollectorRegistry, generate_latest

    class Collector:
        def collect(self) -> Iterator[Metric]:
            yield from _metrics(settings)

    registry = CollectorRegistry()
    registry.register(Collector())
    return generate_latest(registry)


def _metrics(settings: Settings) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    images = GaugeMetricFamily(
        "tilewright_images", "Images of a run's folder.", labels=["out", "label", "status"]
    )
    for out, label in known_outputs(settings.home):
        try:
            manifest = RunFolder(out).reading()
        except OutputError:
            continue
        try:
            for status, count in manifest.counts().items():
                images.add_metric([str(out), label, status], count)
        finally:
            manifest.close()
    yield images
    free = GaugeMetricFamily(
        "tilewright_disk_free_bytes", "What is free on the disk of an output root.", labels=["root"]
    )
    for root in settings.outputs:
        if root.exists():
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
    body = {"flow_runs": {"state": {"type": {"any_": [state]}}}}
    return int(ask(settings, "/flow_runs/count", body))


def ask(settings: Settings, path: str, body: object) -> int:
    """Post to Prefect's API, without importing Prefect."""
    import base64

    headers = {"Content-Type": "application/json"}
    if settings.server.password is not None:
        secret = settings.server.password.get_secret_value().encode()
        headers["Authorization"] = f"Basic {base64.b64encode(secret).decode()}"
    url = f"{settings.server.api_url}{path}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=5) as answer:
        found: int = json.load(answer)
    return found
