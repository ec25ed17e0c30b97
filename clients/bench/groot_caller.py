"""GR00T's client, as far as asking for actions goes: its own is in no package index."""

from __future__ import annotations

import io
from collections.abc import Mapping

import msgpack
import numpy as np
import zmq

from policy.errors import TinyVLAError
from policy.observation import Observation


class GrootCaller:
    """REQ, N1.6's nested observation, arrays as `np.save` bytes.

    Args:
        url: such as ``tcp://127.0.0.1:5555``.
        token: sent as `api_token`.
        observation: what is sent each time.
        timeout_s: longest wait for an answer.
    """

    def __init__(self, url: str, token: str | None, observation: Observation, timeout_s: float) -> None:
        self._url, self._timeout_ms = url, round(timeout_s * 1e3)
        self._token, self._observation = token, observation
        self._context = zmq.Context()
        self._socket = self._connected()

    def call(self) -> None:
        """See `callers.Caller`."""
        seen = self._observation
        asked = {
            "video": {name: _saved(image[None, None]) for name, image in seen.images.items()},
            "state": {"state": _saved(seen.state[None, None])},
            "language": {"task": [[seen.instruction]]},
        }
        message: dict[str, object] = {"endpoint": "get_action", "data": {"observation": asked}}
        if self._token is not None:
            message["api_token"] = self._token
        answer = msgpack.unpackb(self._answered(msgpack.packb(message)))
        if isinstance(answer, Mapping) and "error" in answer:
            raise TinyVLAError("internal", str(answer["error"])[:300])
        for form in answer[0].values():
            np.load(io.BytesIO(form["as_npy"]), allow_pickle=False)

    def close(self) -> None:
        """See `callers.Caller`."""
        self._context.destroy(linger=0)

    def _connected(self) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(zmq.REQ)
        for direction in (zmq.SNDTIMEO, zmq.RCVTIMEO):
            socket.setsockopt(direction, self._timeout_ms)
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(self._url)
        return socket

    def _answered(self, message: bytes) -> bytes:
        try:
            self._socket.send(message)
            return self._socket.recv()
        except zmq.Again:
            # A REQ socket whose answer never came sends nothing more.
            self._socket.close()
            self._socket = self._connected()
            raise ConnectionError(f"{self._url} did not answer in time") from None


def _saved(array: np.ndarray) -> dict[str, object]:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return {"__ndarray_class__": True, "as_npy": out.getvalue()}
