"""A request's body, whole, but never more of it in memory than the limit."""

from __future__ import annotations

from fastapi import Request
from starlette.requests import ClientDisconnect

from policy.errors import TinyVLAError
from service.wire.values import malformed

# A client that is still sending when the connection closes sees a reset rather than our answer, so the rest
# of a body that is too large is read and thrown away, within reason.
_DISCARD = 4


async def read_body(request: Request, limit: int) -> bytes:
    """Raises `too_large` beyond `limit` bytes, whatever Content-Length claims; `malformed` when cut off."""
    pieces: list[bytes] = []
    size = 0
    try:
        async for piece in request.stream():
            size += len(piece)
            if size <= limit:
                pieces.append(piece)
            elif size > _DISCARD * limit:
                break
            else:
                pieces.clear()
    except ClientDisconnect:
        raise malformed("body", "a whole body", "a connection that closed") from None
    if size > limit:
        raise TinyVLAError(
            "too_large",
            f"a body may hold {limit} bytes; send JPEG rather than raw images",
            field="body",
            expected=f"at most {limit} bytes",
            actual="more",
        )
    return b"".join(pieces)
