"""One robot's way of asking, for every door: with the clients that a robot would use, where there are any."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

import httpx
import zmq

from clients.bench.cases import Case, Door
from clients.client_options import ClientOptions
from clients.connect import connect
from clients.retry import NEVER
from policy.errors import TinyVLAError, UsageError
from policy.observation import Observation
from service.wire import json_codec, multipart_codec, zmq_frames
from service.wire.messages import ActRequest

TIMEOUT_S = 30.0
_OPENPI = "the openpi door is measured with openpi's own client; pip install --no-deps openpi-client"


class Caller(Protocol):
    """Made connected; not thread-safe."""

    def call(self) -> None:
        """One observation in, one chunk out; raises `TinyVLAError`, or `ConnectionError` when no answer came."""
        ...

    def close(self) -> None:
        """Release the connection."""
        ...


@dataclass(frozen=True)
class _Calls:
    """A caller of two functions."""

    call: Callable[[], None]
    close: Callable[[], None]


def missing_client(door: Door) -> str | None:
    """What to install before a door can be asked; None where nothing is missing."""
    if door == "openpi":
        try:
            import openpi_client.websocket_client_policy  # noqa: F401
        except ImportError:
            return _OPENPI
    return None


def open_caller(case: Case, url: str, token: str | None, observation: Observation) -> Caller:
    """The caller of a case's door at `url`.

    Raises:
        UsageError: what it needs is not installed.
        ConnectionError: the server cannot be reached, where its door is connected to at once.
    """
    if case.door in ("zmq", "http-msgpack"):
        return _own_client(case, url, token, observation)
    if case.door in ("http-json", "http-multipart"):
        return _plain_http(case, url, token, observation)
    if case.door == "groot":
        from clients.bench.groot_caller import GrootCaller

        return GrootCaller(url, token, observation, TIMEOUT_S)
    if case.door == "zmq-chunk":
        return _bare_dealer(url, observation)
    return _openpi(url, token, observation)


def _own_client(case: Case, url: str, token: str | None, observation: Observation) -> Caller:
    options = ClientOptions(image_format=case.encoding, retry=NEVER, timeout_s=TIMEOUT_S)
    client, request = connect(url, token, options), ActRequest(observation)

    def call() -> None:
        client.act(request)

    return _Calls(call, client.close)


def _plain_http(case: Case, url: str, token: str | None, observation: Observation) -> Caller:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    client = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S, trust_env=False)
    request = ActRequest(observation)

    def body() -> tuple[bytes, str]:
        if case.door == "http-json":
            return json_codec.encode_request(request, image_format=case.encoding), json_codec.CONTENT_TYPE
        assert case.encoding != "raw"
        return multipart_codec.encode_request(request, image_format=case.encoding)

    def call() -> None:
        content, media = body()
        try:
            response = client.post("/act", content=content, headers={"Content-Type": media})
        except httpx.TransportError as error:
            raise ConnectionError(f"{url}: {error or type(error).__name__}") from None
        if not response.is_success:
            raise json_codec.decode_error(response.content)
        json_codec.decode_reply(response.content)

    return _Calls(call, client.close)


def _bare_dealer(url: str, observation: Observation) -> Caller:
    """The frames that our own client would send, made once; the answer's are not read."""
    frames = zmq_frames.encode_request(ActRequest(observation), call_id=1)
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    for direction in (zmq.SNDTIMEO, zmq.RCVTIMEO):
        socket.setsockopt(direction, round(TIMEOUT_S * 1e3))
    socket.connect(url)

    def call() -> None:
        try:
            socket.send_multipart(frames)
            socket.recv_multipart(copy=False)
        except zmq.Again:
            raise ConnectionError(f"{url} did not answer in time") from None

    return _Calls(call, lambda: context.destroy(linger=0))


def _openpi(url: str, token: str | None, observation: Observation) -> Caller:
    if missing_client("openpi"):
        raise UsageError(_OPENPI)
    from openpi_client.websocket_client_policy import WebsocketClientPolicy
    from websockets.exceptions import WebSocketException

    asked = {
        **{f"observation/{name}": image for name, image in observation.images.items()},
        "observation/state": observation.state,
        "prompt": observation.instruction,
    }

    def connected() -> WebsocketClientPolicy:
        try:
            return WebsocketClientPolicy(f"ws://{urlsplit(url).netloc}", api_key=token)
        except (WebSocketException, OSError) as error:
            raise ConnectionError(f"{url}: {error}") from None

    client: WebsocketClientPolicy | None = connected()

    def close() -> None:
        nonlocal client
        if client is not None:
            client._ws.close()
        client = None

    def call() -> None:
        nonlocal client
        client = client or connected()
        try:
            client.infer(asked)
        except RuntimeError as error:  # how that client tells what the server refused
            raise TinyVLAError("internal", str(error)[:300]) from None
        except (WebSocketException, OSError) as error:  # it does not connect anew by itself
            close()
            raise ConnectionError(f"{url}: {error}") from None

    return _Calls(call, close)
