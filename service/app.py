"""The HTTP door: which path does what. Nothing slow runs here: decoding and inference have own threads."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response, Security
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from policy.errors import TinyVLAError
from service.auth import bearer, check_token
from service.body import read_body
from service.engine import ServedPolicy, as_refusal
from service.intake import Intake
from service.negotiation import reply_codec, request_decoder
from service.openapi import ACT_REQUEST, ACT_RESPONSES, problems
from service.wire import json_codec

MAX_BODY = 32 * 2**20  # bytes: five raw 720p cameras in base64 and some


def create_app(intake: Intake, *, token: str | None = None, max_body: int = MAX_BODY) -> FastAPI:
    """The application.

    Args:
        intake: where requests go; its engine is asked for readiness, policy and metrics.
        token: what `Authorization: Bearer` must hold, except for the two probes; None leaves the door open.
        max_body: bytes of a request's body.
    """
    engine = intake.engine
    # The interactive documents load their scripts from another host; the document itself is enough.
    app = FastAPI(title="TinyVLA", docs_url=None, redoc_url=None, openapi_url=None)
    probes = APIRouter()

    async def authorised(request: Request) -> None:
        check_token(token, bearer(request.headers.get("authorization")))

    # HTTPBearer only tells the OpenAPI document of the scheme.
    scheme = Security(HTTPBearer(auto_error=False))
    guarded = APIRouter(dependencies=[Depends(authorised), scheme] if token is not None else [])

    @probes.get("/healthz", summary="The process answers")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @probes.get("/readyz", summary="The policy is loaded and warm", responses=problems("not_ready"))
    async def readyz() -> dict[str, str]:
        return {"status": "ready", "policy": engine.policy.label}

    @guarded.post(
        "/act",
        summary="A chunk of actions for an observation",
        response_class=Response,
        openapi_extra=ACT_REQUEST,
        responses=ACT_RESPONSES,
    )
    async def act(request: Request) -> Response:
        arrived = time.monotonic()
        headers = request.headers
        content_type = headers.get("content-type")
        decode = request_decoder(content_type, headers.get("content-encoding"))
        body = await read_body(request, max_body)
        reply = await asyncio.wrap_future(intake.accept(partial(decode, body), arrived))
        codec = reply_codec(content_type, headers.get("accept"))
        answer = Response(codec.encode_reply(reply), media_type=codec.CONTENT_TYPE)
        engine.metrics.answered("http", "ok")
        return answer

    @guarded.get("/policies", summary="What is loaded", responses=problems("not_ready"))
    async def policies() -> dict[str, Any]:
        policy = engine.policy
        return {"active": policy.label, "policies": [_summary(policy)]}

    @guarded.get(
        "/policies/{name}",
        summary="A policy's contract",
        responses=problems("unknown_policy", "not_ready"),
    )
    async def policy_spec(name: str) -> dict[str, Any]:
        return engine.named(name).spec.model_dump(mode="json")

    @guarded.get("/metrics", summary="Figures for Prometheus", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(engine.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @guarded.get("/openapi.json", include_in_schema=False)
    async def openapi() -> dict[str, Any]:
        return app.openapi()

    async def refused(request: Request, error: Exception) -> Response:
        refusal = as_refusal(error)
        if request.url.path == "/act":
            engine.metrics.answered("http", refusal.code)
        return _problem(request, refusal)

    async def no_such_path(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        detail = (
            f"{request.method} {request.url.path[:200]}: {error.detail}; /openapi.json lists what there is"
        )
        body = {"type": "about:blank", "title": error.detail, "status": error.status_code, "detail": detail}
        return JSONResponse(
            body, error.status_code, headers=error.headers, media_type=json_codec.PROBLEM_CONTENT_TYPE
        )

    app.include_router(probes)
    app.include_router(guarded)
    app.add_exception_handler(TinyVLAError, refused)
    app.add_exception_handler(HTTPException, no_such_path)
    app.add_exception_handler(Exception, refused)
    return app


def _summary(policy: ServedPolicy) -> dict[str, Any]:
    spec = policy.spec
    return {
        "name": spec.name,
        "policy": policy.label,
        "hash": spec.hash,
        "active": True,
        "runtime": policy.runtime,
        "device": policy.device,
        "head": spec.head,
        "horizon": spec.horizon,
        "rate_hz": spec.action.rate_hz,
    }


def _problem(request: Request, error: TinyVLAError) -> Response:
    codec = reply_codec(request.headers.get("content-type"), request.headers.get("accept"))
    media = codec.PROBLEM_CONTENT_TYPE if codec is json_codec else codec.CONTENT_TYPE
    headers = {}
    if error.status == 503:
        headers["Retry-After"] = "1"
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(codec.encode_error(error), error.status, headers, media_type=media)
