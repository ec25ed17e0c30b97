"""A policy behind HTTP: MessagePack over kept-alive connections, blocking (`HttpClient`) or async."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

from clients.client_calls import AsyncCalls, BlockingCalls
from clients.client_options import ClientOptions
from clients.conversation import Call, read_spec
from policy.errors import TinyVLAError, UsageError
from service.wire import json_codec, msgpack_codec
from service.wire.messages import ActReply, ActRequest

if TYPE_CHECKING:
    from policy.spec import PolicySpec

# Bytes of a request between two looks at the clock.
_PIECE = 2**17


class HttpClient(BlockingCalls):
    """See `clients.client.PolicyClient`.

    Args:
        url: such as ``http://127.0.0.1:8000``.
        token: the server's bearer token.
        options: see `ClientOptions`.

    Raises:
        UsageError: the address is none, or the options' `ca_file` holds no certificates.
    """

    def __init__(self, url: str, token: str | None = None, options: ClientOptions | None = None) -> None:
        url, options = url.rstrip("/"), options or ClientOptions()
        super().__init__(url, _HttpLanguage(url, token, options), options)
        # trust_env: a proxy set for the web must not stand between a robot and its server.
        self._http = httpx.Client(trust_env=False, verify=_trusted(options))

    def close(self) -> None:
        self._http.close()

    def _exchange(self, question: httpx.Request, left_s: float) -> httpx.Response:
        until = time.monotonic() + left_s
        question.stream = _Timely(_pieces(question.content), until, httpx.WriteTimeout)
        try:
            response = self._http.send(_within(question, left_s), stream=True)
            with contextlib.closing(response):
                assert isinstance(response.stream, httpx.SyncByteStream)
                response.stream = _Timely(response.stream, until, httpx.ReadTimeout)
                response.read()
        except httpx.TransportError as error:
            raise _no_answer(self.url, error) from None
        return _accepted(response)


class AsyncHttpClient(AsyncCalls):
    """See `clients.client.AsyncPolicyClient`; calls may overlap. Arguments are those of `HttpClient`."""

    def __init__(self, url: str, token: str | None = None, options: ClientOptions | None = None) -> None:
        url, options = url.rstrip("/"), options or ClientOptions()
        super().__init__(url, _HttpLanguage(url, token, options), options)
        self._http = httpx.AsyncClient(trust_env=False, verify=_trusted(options))

    async def close(self) -> None:
        await self._http.aclose()

    async def _exchange(self, question: httpx.Request, left_s: float) -> httpx.Response:
        try:
            async with asyncio.timeout(left_s):
                response = await self._http.send(_within(question, left_s))
        except TimeoutError:
            raise ConnectionError(f"{self.url} did not answer in time") from None
        except httpx.TransportError as error:
            raise _no_answer(self.url, error) from None
        return _accepted(response)


def _trusted(options: ClientOptions) -> ssl.SSLContext | bool:
    """Whose certificates are believed."""
    if options.ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=options.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"{options.ca_file}: no certificates to trust: {error.strerror or error}") from None


class _HttpLanguage:
    """Calls as HTTP requests and responses."""

    def __init__(self, url: str, token: str | None, options: ClientOptions) -> None:
        try:
            httpx.Request("GET", url)
        except (httpx.InvalidURL, UnicodeError) as error:  # the latter of a host name that none can have
            raise UsageError(
                f"{url!r} is no server's address: {error}; expected http://HOST:PORT, such as http://127.0.0.1:8000"
            ) from None
        self._url, self._options = url, options
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def ask_spec(self) -> Call[httpx.Request, httpx.Response, PolicySpec]:
        name = self._options.policy
        if name is None:
            name = str(self._json((yield self._get("/policies"))).get("active"))
        return read_spec(self._json((yield self._get(f"/policies/{quote(name, safe='')}"))), self._url)

    def ask_act(self, request: ActRequest) -> Call[httpx.Request, httpx.Response, ActReply]:
        options = self._options
        body = msgpack_codec.encode_request(
            request, image_format=options.image_format, quality=options.quality
        )
        headers = {"Content-Type": msgpack_codec.CONTENT_TYPE, "Accept": msgpack_codec.CONTENT_TYPE}
        response = yield httpx.Request(
            "POST", f"{self._url}/act", content=body, headers=headers | self._headers
        )
        try:
            return msgpack_codec.decode_reply(response.content)
        except TinyVLAError as error:
            raise ConnectionError(f"{self._url}: {error}") from None

    def ask_reset(self, session: str) -> Call[httpx.Request, httpx.Response, None]:
        yield httpx.Request(
            "DELETE", f"{self._url}/sessions/{quote(session, safe='')}", headers=self._headers
        )

    def _get(self, path: str) -> httpx.Request:
        return httpx.Request("GET", f"{self._url}{path}", headers=self._headers)

    def _json(self, response: httpx.Response) -> dict[str, Any]:
        try:
            return json_codec.parse(response.content)
        except TinyVLAError as error:
            raise ConnectionError(f"{response.request.url}: {error}") from None


class _Timely(httpx.SyncByteStream):
    """A body that ends with an error when a call's time is up.

    The transport's own limits begin anew with each part that gets through, so that a slow network would never meet
    them. A stall is theirs: one that begins late may last as long again.
    """

    def __init__(
        self, pieces: Iterable[bytes], until: float, late: Callable[[str], httpx.TimeoutException]
    ) -> None:
        self._pieces, self._until, self._late = pieces, until, late

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            if time.monotonic() > self._until:
                raise self._late("the call's time is up")
            yield piece

    def close(self) -> None:
        if isinstance(self._pieces, httpx.SyncByteStream):
            self._pieces.close()


def _pieces(body: bytes) -> Sequence[bytes]:
    return [body[start : start + _PIECE] for start in range(0, len(body), _PIECE)]


def _within(question: httpx.Request, seconds: float) -> httpx.Request:
    if not seconds:  # no time at all would be taken for a socket that never waits
        raise httpx.WriteTimeout("the call's time is up")
    question.extensions["timeout"] = httpx.Timeout(seconds).as_dict()
    return question


def _accepted(response: httpx.Response) -> httpx.Response:
    """The response, or the error that it tells."""
    if response.is_success:
        return response
    binary = response.headers.get("content-type", "").startswith(msgpack_codec.CONTENT_TYPE)
    error = (msgpack_codec if binary else json_codec).decode_error(response.content)
    seconds = response.headers.get("retry-after", "")
    error.retry_after_s = float(seconds) if seconds.isdecimal() else None
    raise error


def _no_answer(url: str, error: httpx.TransportError) -> ConnectionError:
    if isinstance(error, httpx.TimeoutException):
        return ConnectionError(f"{url} did not answer in time ({type(error).__name__})")
    return ConnectionError(f"no connection to {url}: {error or type(error).__name__}")
