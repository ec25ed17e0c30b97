"""A bare WebSocket server, as fast as the `websockets` library is: what the openpi door is compared with.

`python -m clients.bench.echo_server echo|chunk` prints its port. It greets with an empty map, as openpi's protocol
wants, and then sends every message back as it came (`echo`), or a chunk of 48 x 4 actions for each (`chunk`), which is
less to send than a camera image, and so the stricter comparison. Neither looks into a message.
"""

from __future__ import annotations

import asyncio
import sys

import msgpack
import numpy as np
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed


async def run(kind: str) -> None:
    """Serve until the process ends."""
    actions = np.zeros((48, 4), np.float32)
    form = {
        b"__ndarray__": True,
        b"data": actions.tobytes(),
        b"dtype": actions.dtype.str,
        b"shape": actions.shape,
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
    asyncio.run(run(sys.argv[1]))
