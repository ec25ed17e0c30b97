"""One robot's way of asking, for every door: with the clients that a robot would use, where there are any."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

import httpx
import zmq

from clients.bench.cases import Case
from clients.client_options import ClientOptions
from clients.connect import connect
from clients.retry import NEVER
from policy.errors import TinyVLAError, UsageError
from policy.observation import Observation
from service.wire import json_codec, multipart_codec, zmq_frames
from service.wire.messages import ActRequest

TIMEOUT_S = 30.0


class Caller(Protocol):
    """Made connected; not thread-safe."""

    def call(self) -> None:
        """One observation in, one chunk out; raises `TinyVLAError` or what the client raises."""
        ...

    def close(self) -> None:
        """Release the connection."""
        ...


@dataclass(frozen=True)
class _Calls:
    """A caller of two functions."""

    call: Callable[[], None]
    close: Callable[[], None]


def open_caller(case: Case, url: str, token: str | None, observation: Observation) -> Caller:
    """The caller of a case's door at `url`.

    Raises:
        UsageError: what it needs is not installed.
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
        response = client.post("/act", content=content, headers={"Content-Type": media})
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
    socket.connect(url)

    def call() -> None:
        socket.send_multipart(frames)
        socket.recv_multipart(copy=False)

    return _Calls(call, lambda: context.destroy(linger=0))


def _openpi(url: str, token: str | None, observation: Observation) -> Caller:
    try:
        from openpi_client.websocket_client_policy import WebsocketClientPolicy
    except ImportError:
        raise UsageError(
            "the openpi door is measured with openpi's own client; pip install --no-deps openpi-client"
        ) from None
    client = WebsocketClientPolicy(f"ws://{urlsplit(url).netloc}", api_key=token)
    asked = {
        **{f"observation/{name}": image for name, image in observation.images.items()},
        "observation/state": observation.state,
        "prompt": observation.instruction,
    }

    def call() -> None:
        try:
            client.infer(asked)
        except RuntimeError as error:  # how that client tells what the server refused
            raise TinyVLAError("internal", str(error)[:300]) from None

    return _Calls(call, client._ws.close)
