"""`POST /act` and the WebSocket at `/`: where observations come in over HTTP and chunks go out."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial

from fastapi import APIRouter, Request, Response
from starlette.routing import Route
from starlette.websockets import WebSocket

from service.access_log import answered
from service.act_exchange import ActExchange
from service.auth import check_caller
from service.body import read_body
from service.dropin.aliases import Aliases
from service.dropin.openpi_door import OpenpiDoor
from service.intake import Intake
from service.openapi import ACT_REQUEST, ACT_RESPONSES
from service.vanished import Listener, Vanished

Endpoint = Callable[[Request], Awaitable[Response]]
_CLIENT_CLOSED = 499  # what nginx made usual for an answer that nobody reads


def act_endpoint(intake: Intake, aliases: Aliases, max_body: int) -> Endpoint:
    """What answers `POST /act`.

    Args:
        intake: where observations go.
        aliases: what other protocols' names mean to the policy.
        max_body: bytes of a request's body.
    """
    metrics = intake.engine.metrics

    async def act(request: Request) -> Response:
        arrived = time.monotonic()
        exchange = ActExchange(request.headers, intake.engine, aliases)
        body = await read_body(request, max_body)
        listener, decode = Listener(request.receive), partial(exchange.decode, body)
        accept = intake.accept_here if exchange.is_quick_to_read(body) else intake.accept
        try:
            reply = await listener.answer(accept(decode, arrived, client=request.client))
        except Vanished:
            answered(metrics, "http", "vanished")
            return Response(status_code=_CLIENT_CLOSED)
        finally:
            listener.close()
        answer = exchange.answer(reply)
        answered(metrics, "http", "ok")
        return answer

    return act


def documented(act: Endpoint) -> APIRouter:
    """The route as the OpenAPI document tells it, to be included with the token's dependencies."""
    router = APIRouter()
    router.post(
        "/act",
        summary="A chunk of actions for an observation",
        response_class=Response,
        openapi_extra=ACT_REQUEST,
        responses=ACT_RESPONSES,
    )(act)
    return router


def short_cut(act: Endpoint, token: str | None) -> Route:
    """The same route without FastAPI's search for parameters, which takes longer than a transport may."""

    async def authorised(request: Request) -> Response:
        check_caller(token, request.headers)
        return await act(request)

    return Route("/act", authorised, methods=["POST"])


def openpi_router(intake: Intake, token: str | None, aliases: Aliases) -> APIRouter:
    """The WebSocket of openpi's clients, which checks its token itself: a refusal comes before the handshake ends."""
    router = APIRouter()
    door = OpenpiDoor(intake, token, aliases)

    @router.websocket("/")
    async def openpi(socket: WebSocket) -> None:
        await door.serve(socket)

    return router
