"""A policy behind ZeroMQ: one DEALER socket, arrays sent from where they lie."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

import zmq
from pydantic import ValidationError

from policy.errors import TinyVLAError
from policy.spec import PolicySpec
from service.wire import zmq_frames
from service.wire.images import ImageFormat
from service.wire.messages import ActReply, ActRequest


class ZmqClient:
    """See `clients.client.PolicyClient`.

    Args:
        url: such as ``tcp://127.0.0.1:5570``.
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
        self.url = url
        self._token = token
        self._policy = policy
        self._image_format = image_format
        self._quality = quality
        self._timeout_s = timeout_s
        self._next_id = 0
        self._context = zmq.Context()
        try:
            self._socket = self._connect()
        except zmq.ZMQError as error:
            self._context.term()
            raise ConnectionError(f"{url} is no address to connect to: {error}") from None

    def spec(self) -> PolicySpec:
        """The contract of the policy that `act` asks."""
        answer = self._call("spec", {"policy": self._policy} if self._policy else {})
        try:
            return PolicySpec.model_validate(answer.fields.get("spec"))
        except ValidationError as error:
            raise ConnectionError(f"{self.url} answered no policy spec: {error!s:.200}") from None

    def act(self, request: ActRequest) -> ActReply:
        """One observation in, one chunk out."""
        call_id = self._new_id()
        message = zmq_frames.encode_request(
            request,
            call_id,
            token=self._token,
            image_format=self._image_format,
            quality=self._quality,
        )
        answer = self._exchange(call_id, message)
        try:
            return zmq_frames.decode_reply(answer)
        except TinyVLAError as error:
            raise ConnectionError(f"{self.url}: {error}") from None

    def reset(self, session: str) -> None:
        """Forget what waits on the server for a session."""
        self._call("reset", {"session": session})

    def close(self) -> None:
        self._socket.close(linger=0)
        self._context.term()

    def _call(self, op: str, fields: Mapping[str, object]) -> zmq_frames.Answer:
        call_id = self._new_id()
        return self._exchange(call_id, zmq_frames.encode_call(op, call_id, token=self._token, fields=fields))

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id

    def _connect(self) -> zmq.Socket:
        socket: zmq.Socket = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.IPV6, "[" in self.url)
        try:
            socket.connect(self.url)
        except zmq.ZMQError:
            socket.close()
            raise
        return socket

    def _exchange(self, call_id: int, message: zmq_frames.Frames) -> zmq_frames.Answer:
        """Send and wait; raises the error that the server answered."""
        deadline = time.monotonic() + self._timeout_s
        self._socket.send_multipart(message, copy=False)
        while self._socket.poll(max(0, math.ceil((deadline - time.monotonic()) * 1e3))):
            parts = [frame.buffer for frame in self._socket.recv_multipart(copy=False)]
            try:
                answer = zmq_frames.decode_answer(parts)
            except TinyVLAError as error:
                raise ConnectionError(f"{self.url}: {error}") from None
            # Without an id the server could not read the message; with an older one the call has timed out.
            if answer.id in (call_id, None):
                if answer.error is not None:
                    raise answer.error
                return answer
        # What was sent waits inside the socket for a server to come back; a new socket forgets it.
        self._socket.close(linger=0)
        self._socket = self._connect()
        raise ConnectionError(f"{self.url} did not answer within {self._timeout_s:g} s")
