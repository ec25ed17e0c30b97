"""MessagePack with a limit on how many values a message may unfold to, whoever sent it.

A byte of MessagePack can become a Python object of fifty, and whoever unpacks stands still meanwhile: a body of
32 MiB of small lists would hold up every robot's reply for seconds. Arrays belong into binary fields.
"""

from __future__ import annotations

from typing import Any

import msgpack

from policy.errors import TinyVLAError
from service.wire.arrays import Buffer

MANY = (
    200_000  # for a thread that may take a tenth of a second: windows of thousands of samples as nested lists
)
FEW = 10_000  # for a thread that every client waits for: 5 ms
_MAX_MAP = 4096


def unpack(body: Buffer, field: str = "body", limit: int = MANY) -> object:
    """The value, made of maps, lists and scalars.

    Args:
        body: one whole MessagePack value.
        field: what the body is, for errors.
        limit: values in all maps and lists together.

    Raises:
        TinyVLAError: `malformed` or `too_large`.
    """
    left = limit
    may_be_many = len(body) > limit  # a value takes a byte at least

    def spend(values: Any) -> Any:
        nonlocal left
        left -= len(values)
        if left < 0:
            raise too_many(field, limit)
        return values

    try:
        return msgpack.unpackb(
            body,
            object_hook=spend if may_be_many else None,
            list_hook=spend if may_be_many else None,
            max_array_len=limit,
            max_map_len=_MAX_MAP,
        )
    # Unpackers raise ValueError (UTF-8, depth, extra data), UnpackException, and TypeError for odd map keys.
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        if "exceeds max_" in str(error):
            raise too_many(field, limit) from None
        raise TinyVLAError(
            "malformed",
            f"the {field} is no MessagePack: {error!s:.120}",
            field=field,
            expected="a MessagePack map",
        ) from None


def too_many(field: str, limit: int) -> TinyVLAError:
    """The refusal of what would unfold to more than `limit` values."""
    return TinyVLAError(
        "too_large",
        f"the {field} unfolds to more than {limit} values; send arrays as binary",
        field=field,
        expected=f"at most {limit} values",
        actual="more",
    )
