"""Bare servers, as fast as their libraries are: what a door is compared with.

`python -m clients.bench.echo_server echo|echo-chunk|zmq-chunk` prints its port. Over WebSocket it greets with an empty
map, as openpi's protocol wants, and then sends every message back as it came (`echo`), or a chunk of 48 x 4 actions for
each (`echo-chunk`), which is less to send than a camera image, and so the stricter comparison. `zmq-chunk` is a ROUTER
that answers every message with the frames of such a chunk. None looks into a message.
"""

from __future__ import annotations

import asyncio
import sys

import msgpack
import numpy as np
import zmq
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

_ACTIONS = np.zeros((48, 4), np.float32)


def run_zmq() -> None:
    """Serve until the process ends."""
    router = zmq.Context().socket(zmq.ROUTER)
    print(router.bind_to_random_port("tcp://127.0.0.1"), flush=True)
    header = msgpack.packb({"v": 1, "ok": True, "actions": {"f": 0, "dtype": "<f4", "shape": [48, 4]}})
    while True:
        sender = router.recv_multipart(copy=False)[0].bytes
        router.send_multipart([sender, header, _ACTIONS.tobytes()])


async def run(kind: str) -> None:
    """Serve until the process ends."""
    form = {
        b"__ndarray__": True,
        b"data": _ACTIONS.tobytes(),
        b"dtype": _ACTIONS.dtype.str,
        b"shape": _ACTIONS.shape,
    }
    chunk = msgpack.packb({"actions": form})

    async def answer(connection: ServerConnection) -> None:
        await connection.send(msgpack.packb({}))
        try:
            while True:
                message = await connection.recv()
                await connection.send(message if kind == "echo" else chunk)
        except ConnectionClosed:
            return

    async with serve(answer, "127.0.0.1", 0, compression=None, max_size=None) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    run_zmq() if sys.argv[1] == "zmq-chunk" else asyncio.run(run(sys.argv[1]))
