"""The HTTP door: which path does what. Nothing slow runs here: decoding and inference have own threads."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.routing import Match

from policy.errors import TinyVLAError
from service.access_log import answered
from service.access_log import refused as log_refusal
from service.act_route import act_endpoint, documented, openpi_router, short_cut
from service.auth import admin_token_wanted, token_wanted
from service.bundle_shelf import BundleShelf
from service.dropin.aliases import Aliases
from service.engine import as_refusal
from service.intake import Intake
from service.negotiation import reply_codec
from service.openapi import problems
from service.policy_routes import admin_router, policies_router
from service.status.routes import page_router, status_router
from service.wire import json_codec

MAX_BODY = 32 * 2**20  # bytes: five raw 720p cameras in base64 and some


def create_app(
    intake: Intake,
    *,
    token: str | None = None,
    admin_token: str | None = None,
    aliases: Aliases = (),
    shelf: BundleShelf | None = None,
    max_body: int = MAX_BODY,
) -> FastAPI:
    """The application.

    Args:
        intake: where requests go; its engine is asked for readiness, policy and metrics.
        token: what `Authorization: Bearer` must hold, except for the two probes; None leaves the door open.
        admin_token: what it must hold to load, activate and unload policies; None closes that to everybody.
        aliases: what the names of other protocols mean to the policy.
        shelf: the bundles that may be loaded.
        max_body: bytes of a request's body.
    """
    engine = intake.engine
    # The interactive documents load their scripts from another host; the document itself is enough.
    app = FastAPI(title="TinyVLA", docs_url=None, redoc_url=None, openapi_url=None)
    probes = APIRouter()

    closed = problems("unauthorized", "forbidden")
    guarded = APIRouter(dependencies=token_wanted(token), responses=closed)

    @probes.get("/healthz", summary="The process answers", response_class=PlainTextResponse)
    async def healthz() -> str:
        return "OK\n"  # as openpi's server says it

    @probes.get("/readyz", summary="The policy is loaded and warm", responses=problems("not_ready"))
    async def readyz() -> dict[str, str]:
        return {"status": "ready", "policy": engine.policy.label}

    @guarded.get("/metrics", summary="Figures for Prometheus", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(engine.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @guarded.get("/openapi.json", include_in_schema=False)
    async def openapi() -> dict[str, Any]:
        return app.openapi()

    async def refused(request: Request, error: Exception) -> Response:
        refusal = as_refusal(error)
        if request.url.path == "/act":
            answered(engine.metrics, "http", refusal.code, refusal)
        else:
            log_refusal("http", refusal)
        return _problem(request, refusal)

    async def no_such_path(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        detail = (
            f"{request.method} {request.url.path[:200]}: {error.detail}; /openapi.json lists what there is"
        )
        body = {"type": "about:blank", "title": error.detail, "status": error.status_code, "detail": detail}
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = _allowed(app, request)
        return JSONResponse(body, error.status_code, headers, media_type=json_codec.PROBLEM_CONTENT_TYPE)

    act = act_endpoint(intake, aliases, max_body)
    guarded.include_router(documented(act))
    guarded.include_router(policies_router(engine))
    guarded.include_router(status_router(engine))
    app.router.routes.insert(0, short_cut(act, token))
    app.include_router(probes)
    app.include_router(page_router())
    app.include_router(guarded)
    app.include_router(
        admin_router(engine, shelf), dependencies=admin_token_wanted(admin_token), responses=closed
    )
    app.include_router(openpi_router(intake, token, aliases))
    app.add_exception_handler(TinyVLAError, refused)
    app.add_exception_handler(HTTPException, no_such_path)
    app.add_exception_handler(Exception, refused)
    return app


def _allowed(app: FastAPI, request: Request) -> str:
    """Every method of a path; Starlette itself tells those of the first route that matches."""
    here = [route for route in app.routes if route.matches(request.scope)[0] is not Match.NONE]
    return ", ".join(sorted({method for route in here for method in getattr(route, "methods", ())}))


def _problem(request: Request, error: TinyVLAError) -> Response:
    codec = reply_codec(request.headers.get("content-type"), request.headers.get("accept"))
    media = codec.PROBLEM_CONTENT_TYPE if codec is json_codec else codec.CONTENT_TYPE
    headers = {}
    if error.status == 503:
        headers["Retry-After"] = "1"
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(codec.encode_error(error), error.status, headers, media_type=media)
