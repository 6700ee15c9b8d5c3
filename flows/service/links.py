"""Links that a run shows on its page."""

from __future__ import annotations

import logging
from urllib.parse import quote

from flows.request import Request
from flows.service.settings import Settings

log = logging.getLogger(__name__)


def announce(request: Request, settings: Settings) -> None:
    """Link the run to its report and the dashboard of the cluster."""
    from prefect.artifacts import create_link_artifact

    key = f"run-{request.plan[:8]}"
    links = {
        "report": (report_url(request, settings), "Report, once the run has ended"),
        "dashboard": (f"{settings.cluster.dashboard_url}/status", "The cluster"),
    }
    for name, (url, text) in links.items():
        try:
            create_link_artifact(url, text, f"{key}-{name}", _sync=True)  # type: ignore[call-arg]
        except Exception as error:  # httpx's, Prefect's and pydantic's have no common base
            log.warning("Prefect does not take a link, the run goes on: %s", error)


def report_url(request: Request, settings: Settings) -> str:
    """Where the report of a run can be read."""
    return f"{settings.pages.base_url}/out{quote(str(request.out))}/report.html"
