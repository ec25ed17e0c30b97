"""`/` is the page and `/static/` its files, open to all as they hold no data; `/status` is what they show."""

from __future__ import annotations

import time

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from policy.errors import TinyVLAError
from service.engine import Engine
from service.status.page_files import HEADERS, INDEX, read_page_files
from service.status.snapshot import status_map


def page_router() -> APIRouter:
    """The page itself: markup, style and scripts."""
    router = APIRouter()
    files = read_page_files()

    @router.get("/", include_in_schema=False)
    async def page() -> Response:
        return Response(files[INDEX].content, media_type=files[INDEX].media_type, headers=HEADERS)

    @router.get("/static/{name}", include_in_schema=False)
    async def static(name: str) -> Response:
        if name not in files:
            raise HTTPException(404, "Not Found")
        return Response(files[name].content, media_type=files[name].media_type, headers=HEADERS)

    return router


def status_router(engine: Engine) -> APIRouter:
    """What the page shows."""
    router = APIRouter()

    # Not `async`: it encodes images, which belongs on the thread pool and not on the event loop.
    @router.get("/status", summary="What the status page shows", response_class=JSONResponse)
    def status() -> Response:
        try:
            active = engine.policy.label
        except TinyVLAError:
            active = None
        shown = status_map(engine.policies, active, engine.metrics, engine.watch, time.monotonic())
        return JSONResponse(shown, headers={"Cache-Control": "no-store"})

    return router
