"""Reports and pictures of runs, and metrics, over HTTP: what the pages of Prefect link to."""

from __future__ import annotations

import logging
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from flows.service.doors import allowed_output
from flows.service.metrics import metrics_text
from flows.service.settings import Settings, load_settings
from pipeline.errors import RecipeError, TilewrightError
from pipeline.output import OUTLINES
from pipeline.report.contact_sheet import contact_sheet
from pipeline.run_folder import RunFolder
from pipeline.scores.page import PAGE
from pipeline.storage import AnyPath, StorePath

if TYPE_CHECKING:
    from starlette.applications import Starlette

log = logging.getLogger(__name__)

#: What may be read of an output folder.
REPORT = "report.html"
FILES = {
    REPORT: "text/html",
    "run.json": "application/json",
    PAGE: "text/html",
    "objects.csv": "text/csv",
}
#: And of its folder of outlines, which the report links to.
OUTLINE_SUFFIX = ".geojson"
#: Is drawn when it is asked for.
PICTURES = "images.svg"


def place_in_url(out: AnyPath) -> str:
    """The path of an output folder's pages: ``/out/FOLDER`` or ``/store/SCHEME/BUCKET/FOLDER``."""
    if isinstance(out, StorePath):
        scheme, _, rest = str(out).partition("://")
        return f"/store/{scheme}/{quote(rest)}"
    return f"/out{quote(str(out))}"


def _type(path: AnyPath) -> str | None:
    """The media type of what is served of an output folder; None for what is not."""
    if path.suffix == OUTLINE_SUFFIX and OUTLINES in str(path.parent).split("/"):
        return "application/geo+json"
    return FILES.get(path.name)


def make_app(settings: Settings) -> Starlette:
    """`FILES` and `PICTURES` at `place_in_url`, ``/metrics`` and ``/health``."""
    from starlette.applications import Starlette
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Route

    def disk(request: Request) -> Response:
        return page(Path("/") / request.path_params["path"])

    def store(request: Request) -> Response:
        given = request.path_params
        try:
            return page(StorePath.of(f"{given['scheme']}://{given['path']}"))
        except RecipeError as error:
            return PlainTextResponse(str(error), 404)

    def page(path: AnyPath) -> Response:
        try:
            found = allowed_output(path, settings)  # all links resolved
        except TilewrightError as error:
            return PlainTextResponse(str(error), 403)
        if path.name == PICTURES:
            return pictures(found.parent)
        kind = _type(found)
        if kind is None:
            served = ", ".join((*FILES, PICTURES, f"{OUTLINES}/*{OUTLINE_SUFFIX}"))
            return PlainTextResponse(f"{path.name}: only {served} are served.", 404)
        try:
            # A report holds its pictures, and runs no scripts but its own.
            return Response(found.read_bytes(), media_type=kind)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return PlainTextResponse(
                f"{path}: is not there yet; a run writes it when it ends.", 404
            )
        except (OSError, ValueError) as error:
            log.warning("%s: %s", path, error)
            return PlainTextResponse(f"{path}: cannot be read now; the log says why.", 502)

    def pictures(out: AnyPath) -> Response:
        """What is published by now."""
        folder = RunFolder(out)
        try:
            with closing(folder.reading()) as manifest:
                drawn = contact_sheet(manifest, folder.read_recipe())
        except TilewrightError as error:
            return PlainTextResponse(str(error), 404)
        fresh = {"Cache-Control": "no-store"}
        return Response(drawn, media_type="image/svg+xml", headers=fresh)

    def metrics(request: Request) -> Response:
        return PlainTextResponse(metrics_text(settings), media_type="text/plain; version=0.0.4")

    def health(request: Request) -> Response:
        return PlainTextResponse("ok")

    app = Starlette(
        routes=[
            Route("/out/{path:path}", disk),
            Route("/store/{scheme}/{path:path}", store),
            Route("/metrics", metrics),
            Route("/health", health),
        ]
    )
    # Pages of others, which a browser of this machine shows, must not read ours by another name.
    if not settings.private_network:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
    return app


def main() -> None:
    """Serve the pages until a signal comes."""
    import uvicorn

    settings = load_settings()
    uvicorn.run(
        make_app(settings), host=settings.pages.host, port=settings.pages.port, log_level="warning"
    )


if __name__ == "__main__":
    main()
