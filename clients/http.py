"""A policy behind HTTP: MessagePack over one kept-alive connection."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx
from pydantic import ValidationError

from policy.errors import TinyVLAError
from policy.spec import PolicySpec
from service.wire import json_codec, msgpack_codec
from service.wire.images import ImageFormat
from service.wire.messages import ActReply, ActRequest


class HttpClient:
    """See `clients.client.PolicyClient`.

    Args:
        url: such as ``http://127.0.0.1:8000``.
        token: the server's bearer token.
        policy: `name` or `name@hash` of the policy to ask; None is the active one.
        image_format: how images travel; `raw` where the network is fast, `jpeg` where it is not.
        quality: of JPEG, 1 to 95.
        timeout_s: longest wait for an answer.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        policy: str | None = None,
        image_format: ImageFormat = "raw",
        quality: int = 90,
        timeout_s: float = 5.0,
    ) -> None:
        self.url = url.rstrip("/")
        self._policy = policy
        self._image_format = image_format
        self._quality = quality
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # trust_env: a proxy set for the web must not stand between a robot and its server.
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout_s, trust_env=False)

    def spec(self) -> PolicySpec:
        """The contract of the policy that `act` asks."""
        name = self._policy
        if name is None:
            name = str(self._json("/policies").get("active"))
        try:
            return PolicySpec.model_validate(self._json(f"/policies/{quote(name, safe='')}"))
        except ValidationError as error:
            raise ConnectionError(f"{self.url} answered no policy spec: {error!s:.200}") from None

    def act(self, request: ActRequest) -> ActReply:
        """One observation in, one chunk out."""
        body = msgpack_codec.encode_request(request, image_format=self._image_format, quality=self._quality)
        headers = {"Content-Type": msgpack_codec.CONTENT_TYPE, "Accept": msgpack_codec.CONTENT_TYPE}
        response = self._send(self._http.build_request("POST", "/act", content=body, headers=headers))
        try:
            return msgpack_codec.decode_reply(response.content)
        except TinyVLAError as error:
            raise ConnectionError(f"{self.url}: {error}") from None

    def reset(self, session: str) -> None:
        """Nothing to do: a blocking client has nothing waiting on the server that could be forgotten."""

    def close(self) -> None:
        self._http.close()

    def _json(self, path: str) -> dict[str, Any]:
        body = self._send(self._http.build_request("GET", path)).content
        try:
            return json_codec.parse(body)
        except TinyVLAError as error:
            raise ConnectionError(f"{self.url}{path}: {error}") from None

    def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            response = self._http.send(request)
        except httpx.TimeoutException as error:
            raise ConnectionError(f"{self.url} did not answer in time ({type(error).__name__})") from None
        except httpx.TransportError:
            # A kept-alive connection that the server closed meanwhile fails like this; a new one may not.
            response = self._send_again(request)
        if response.is_success:
            return response
        binary = response.headers.get("content-type", "").startswith(msgpack_codec.CONTENT_TYPE)
        raise (msgpack_codec if binary else json_codec).decode_error(response.content)

    def _send_again(self, request: httpx.Request) -> httpx.Response:
        try:
            return self._http.send(request)
        except httpx.TransportError as error:
            raise ConnectionError(f"no connection to {self.url}: {error or type(error).__name__}") from None
