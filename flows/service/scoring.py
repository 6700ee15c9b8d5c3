"""The flow that compares labels with a truth. Import this module when PREFECT_API_URL is set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run
from pydantic import Field

from flows.evaluate import EvaluateRequest, evaluate
from flows.service.doors import allowed_input, allowed_output, on_disk
from flows.service.links import link_page
from flows.service.runs import begin
from flows.service.settings import load_settings
from pipeline.scores.page import PAGE
from pipeline.scores.text import result_text
from pipeline.storage import path_of

TolerancePx = Annotated[int, Field(ge=0, le=64)]


def run_name() -> str:
    """What a comparison is called in lists."""
    return f"scores: {Path(str(flow_run.parameters.get('labels'))).name}"


@flow(name="evaluate-labels", flow_run_name=run_name, persist_result=False)
def evaluate_labels(
    labels: str,
    truth: str,
    out: str,
    images: str | None = None,
    label: str | None = None,
    truth_label: str | None = None,
    classes: str | None = None,
    tolerance_px: TolerancePx = 2,
    only: str | None = None,
) -> None:
    """Compare labels with a truth: tables of scores, and the worst images.

    Args:
        labels: Label images, OME-Zarr or the output of a run; absolute, or an address.
        truth: The truth: the same, with the same names.
        out: Where tables and pictures go.
        images: The images, to be seen behind the outlines; runs and OME-Zarr know them.
        label: Which labels, where an OME-Zarr or a run has several.
        truth_label: Which labels of the truth.
        classes: Names of classes 1, 2, ... with commas, if numbers are no objects.
        tolerance_px: How far apart borders may lie.
        only: Only images whose name matches this glob.
    """
    begin()
    settings = load_settings()
    folder = on_disk(allowed_output(path_of(out), settings), "output folder")
    request = EvaluateRequest(
        allowed_input(path_of(labels), settings),
        allowed_input(path_of(truth), settings),
        folder,
        label=label,
        truth_label=truth_label,
        images=allowed_input(path_of(images), settings) if images else None,
        classes=classes,
        tolerance_px=tolerance_px,
        only=only,
    )
    result = evaluate(request)
    for error in result.failures:
        get_run_logger().warning("%s", error)
    text = f"```text\n{result_text(result)}\n```"
    create_markdown_artifact(text, "table-of-scores", f"{labels} beside {truth}", _sync=True)  # type: ignore[call-arg]
    link_page(folder, settings, PAGE, "Scores and the worst images")
