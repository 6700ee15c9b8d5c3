"""What is answered: the list of images, thumbnails, the viewer's pages, and chunks of the zarr.

    /KEY/                            the images of the run
    /KEY/thumbnails/N                a small picture of image N
    /KEY/v/N/                        the viewer with image N; the viewer insists on the v
    /KEY/client/FILE                 the viewer's own files
    /KEY/data/N/results/PATH         a file of the published OME-Zarr
    /KEY/data/N/image/PATH           a file of the OME-Zarr with the pixels
    /KEY/data/N/classes/LABEL/info   names of classes

KEY is drawn anew by each command: on a machine that others use too, any of them can connect to
127.0.0.1, but only who started the command knows the address.
"""

from __future__ import annotations

import base64
import logging
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from flows.viewer.answers import file_answer
from flows.viewer.client import POLICY, START, THREAD_POLICY, viewer_page
from flows.viewer.gate import Gate
from flows.viewer.images import Places, RunImages, file_inside
from flows.viewer.index_page import INDEX_POLICY, index_page
from flows.viewer.layers import MALFORMED, class_names, make_layers
from flows.viewer.multiscale import open_multiscale
from flows.viewer.state import start_of
from pipeline.errors import ViewError
from pipeline.manifest import ImageRow
from pipeline.output import LABELS
from pipeline.report.views import make_views

log = logging.getLogger(__name__)


def make_app(images: RunImages, client: Path, key: str, port: int) -> ASGIApp:
    """All answers of one command.

    Parameters
    ----------
    images : RunImages
    client : Path
        The viewer's files, as `find_client` says.
    key : str
        First part of every path that is answered.
    port : int
        Where the server listens.
    """
    pages = Pages(images, client, key)
    routes = [
        Route("/", pages.index),
        Route("/thumbnails/{number:int}", pages.thumbnail),
        Route("/v/{number:int}/", pages.viewer),
        Route("/client/{path}", pages.client_file),
        Route("/data/{number:int}/classes/{label:path}/info", pages.classes),
        Route("/data/{number:int}/{which}/{path:path}", pages.data),
    ]
    app = Starlette(
        routes=[Mount(f"/{key}", routes=routes)], exception_handlers={OSError: _not_read}
    )
    return Gate(app, port)


class Pages:
    """The answers; Starlette calls them in threads, for they read files.

    Parameters
    ----------
    images, client, key
        As `make_app` has them.
    """

    def __init__(self, images: RunImages, client: Path, key: str) -> None:
        self._images = images
        self._client = client
        self._key = key

    def index(self, request: Request) -> Response:
        first = request.query_params.get("first", "0")
        page = index_page(self._images, int(first) if first.isdecimal() else 0)
        return HTMLResponse(page, headers={"Content-Security-Policy": INDEX_POLICY})

    def thumbnail(self, request: Request) -> Response:
        row, _ = self._published(request)
        try:
            view = make_views(row, self._images.recipe).overview
        except Exception as error:  # one picture must not cost the list
            log.info("view: no picture of %s: %s", row.name, error)
            raise HTTPException(404, "no picture") from error
        if view is None:
            raise HTTPException(404, "too large without a pyramid")
        kind, _, data = view.thumbnail.uri.removeprefix("data:").partition(";base64,")
        return Response(base64.b64decode(data), media_type=kind)

    def viewer(self, request: Request) -> Response:
        row, places = self._published(request)
        # The host has been checked; it is 127.0.0.1 or what forwards to it.
        base = f"http://{request.headers['host']}/{self._key}/data/{request.path_params['number']}/"
        try:
            layers = make_layers(row, places, self._images.missing_chunks, base)
        except ViewError as error:
            raise HTTPException(404, str(error)) from error
        page = viewer_page(self._client, f"/{self._key}/client/", start_of(row, layers))
        return HTMLResponse(page, headers={"Content-Security-Policy": POLICY})

    def client_file(self, request: Request) -> Response:
        name = request.path_params["path"]
        place = START if name == START.name else file_inside(self._client, name)
        answer = file_answer(place, request)
        # Threads obey what comes with their own file.
        answer.headers["Content-Security-Policy"] = THREAD_POLICY
        return answer

    def classes(self, request: Request) -> Response:
        """Names of the values of a label image, as neuroglancer's own format has them."""
        _, places = self._published(request)
        place = f"{LABELS}/{request.path_params['label']}"
        try:
            names = class_names(open_multiscale(places.results, place, "").attributes)
        except (ViewError, *MALFORMED) as error:
            raise HTTPException(404) from error
        label = {"id": "name", "type": "label", "values": list(names.values())}
        inline: dict[str, Any] = {"ids": [str(value) for value in names], "properties": [label]}
        return JSONResponse({"@type": "neuroglancer_segment_properties", "inline": inline})

    def data(self, request: Request) -> Response:
        _, places = self._published(request)
        folder = {"results": places.results, "image": places.image}.get(
            request.path_params["which"]
        )
        return file_answer(folder and file_inside(folder, request.path_params["path"]), request)

    def _published(self, request: Request) -> tuple[ImageRow, Places]:
        number = request.path_params["number"]
        row, places = self._images.row(number), self._images.places(number)
        if row is None or places is None:
            raise HTTPException(404, "no such image is published here")
        return row, places


def _not_read(request: Request, error: Exception) -> Response:
    """A disk or a store that fails is not taken for a missing file; the command says how it did."""
    log.warning("view: %s", error)
    return PlainTextResponse("It cannot be read now; the terminal of the command says why.\n", 502)
