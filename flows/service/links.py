"""Links and pictures that a run shows on its page."""

from __future__ import annotations

import logging

from flows.request import Request
from flows.service.pages import PICTURES, REPORT, place_in_url
from flows.service.settings import Settings
from pipeline.storage import AnyPath

log = logging.getLogger(__name__)


def announce(request: Request, settings: Settings) -> None:
    """Show the run's images, and link it to its report and the dashboard of the cluster."""
    from prefect.artifacts import create_image_artifact, create_link_artifact

    key = f"run-{request.plan[:8]}"
    links = {
        "report": (page_url(request.out, settings, REPORT), "Report, once the run has ended"),
        "dashboard": (f"{settings.cluster.dashboard_url}/status", "The cluster"),
    }
    try:
        for name, (url, text) in links.items():
            create_link_artifact(url, text, f"{key}-{name}", text, _sync=True)  # type: ignore[call-arg]
        # Drawn whenever the page is opened, of what is published by then.
        pictures = page_url(request.out, settings, PICTURES)
        create_image_artifact(pictures, f"{key}-pictures", "Images so far", _sync=True)  # type: ignore[call-arg]
    except Exception as error:  # httpx's, Prefect's and pydantic's have no common base
        log.warning("Prefect does not take links, the run goes on: %s", error)


def link_page(out: AnyPath, settings: Settings, name: str, words: str) -> None:
    """Link a run to a page of its output folder."""
    from prefect.artifacts import create_link_artifact

    key = name.partition(".")[0]
    try:
        create_link_artifact(page_url(out, settings, name), words, key, words, _sync=True)  # type: ignore[call-arg]
    except Exception as error:  # httpx's, Prefect's and pydantic's have no common base
        log.warning("Prefect does not take links, the run goes on: %s", error)


def page_url(out: AnyPath, settings: Settings, name: str) -> str:
    """Where a page of an output folder is."""
    return f"{settings.pages.base_url}{place_in_url(out)}/{name}"
