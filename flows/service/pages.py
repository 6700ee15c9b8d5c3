"""Reports and pictures of runs, and metrics, over HTTP: what the pages of Prefect link to."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from flows.service.doors import allowed_output
from flows.service.metrics import metrics_text
from flows.service.settings import Settings, load_settings
from pipeline.errors import TilewrightError
from pipeline.report.contact_sheet import contact_sheet
from pipeline.run_folder import RunFolder
from pipeline.scores.page import PAGE

if TYPE_CHECKING:
    from starlette.applications import Starlette

#: What may be read of an output folder.
REPORT = "report.html"
FILES = {REPORT: "text/html", "run.json": "application/json", PAGE: "text/html"}
#: Is drawn when it is asked for.
PICTURES = "images.svg"


def make_app(settings: Settings) -> Starlette:
    """The pages ``/out/FOLDER/`` `FILES` or `PICTURES`, ``/metrics`` and ``/health``."""
    from starlette.applications import Starlette
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import Request
    from starlette.responses import FileResponse, PlainTextResponse, Response
    from starlette.routing import Route

    def file(request: Request) -> Response:
        path = Path("/") / request.path_params["path"]
        try:
            found = allowed_output(path, settings)  # all links resolved
        except TilewrightError as error:
            return PlainTextResponse(str(error), 403)
        if path.name == PICTURES:
            return pictures(found.parent)
        if path.name not in FILES:
            served = ", ".join((*FILES, PICTURES))
            return PlainTextResponse(f"{path.name}: only {served} are served.", 404)
        if not found.is_file():
            return PlainTextResponse(
                f"{path}: is not there yet; a run writes it when it ends.", 404
            )
        # A report holds its pictures, and runs no scripts but its own.
        return FileResponse(found, media_type=FILES[path.name])

    def pictures(out: Path) -> Response:
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
            Route("/out/{path:path}", file),
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
