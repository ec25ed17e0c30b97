"""Arrays from bytes or nested lists, with a strict list of dtypes: no object arrays, nothing unpickled."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from policy.errors import TinyVLAError
from service.wire.values import malformed, shown

# NumPy's short names and the long ones people write by hand; little-endian only.
_DTYPES: dict[str, np.dtype] = {
    alias: np.dtype(short)
    for short, aliases in {
        "|u1": ("|u1", "u1", "uint8"),
        "<f4": ("<f4", "f4", "float32"),
        "<f8": ("<f8", "f8", "float64"),
        "<i4": ("<i4", "i4", "int32"),
        "<i8": ("<i8", "i8", "int64"),
    }.items()
    for alias in aliases
}
# What robots of other protocols send besides: depth and masks, which are left out, and states of half floats.
PEER_DTYPES = _DTYPES | {
    short: np.dtype(short) for short in ("|b1", "|i1", "<i2", "<u2", "<f2", "<u4", "<u8")
}
_MAX_DIMS = 5  # batch, time, height, width, colour

Buffer = bytes | bytearray | memoryview


def from_buffer(
    data: Buffer, dtype: object, shape: object, field: str, dtypes: Mapping[str, np.dtype] = _DTYPES
) -> np.ndarray:
    """View `data` as an array without a copy; raises `malformed` unless dtype, shape and size agree."""
    if not isinstance(dtype, str) or dtype not in dtypes:
        raise malformed(field, f"dtype one of {', '.join(dtypes)}", shown(dtype))
    if (
        not isinstance(shape, list | tuple)
        or len(shape) > _MAX_DIMS
        or any(type(n) is not int or not 0 <= n < 2**63 for n in shape)
    ):
        raise malformed(field, f"shape as a list of at most {_MAX_DIMS} sizes", shown(shape))
    kind = dtypes[dtype]
    size = len(data) if isinstance(data, bytes | bytearray) else data.nbytes
    wanted = math.prod(shape) * kind.itemsize
    if wanted != size:
        raise malformed(field, f"{wanted} bytes for {dtype} {list(shape)}", f"{size} bytes")
    try:
        return np.frombuffer(data, kind).reshape(shape) if size else np.zeros(shape, kind)
    except ValueError:  # NumPy has a largest size also for what is empty
        raise malformed(field, "sizes that an array can have", shown(shape)) from None


def from_lists(value: object, field: str) -> np.ndarray:
    """Nested lists of numbers as float32; raises `malformed` for anything else, ragged lists included."""
    if not isinstance(value, list):
        raise malformed(field, "an array of numbers", shown(value))
    try:
        # As objects first: left to choose, NumPy gives every entry of a list with text in it the longest one's room.
        entries = np.array(value, dtype=object)
        if not set(map(type, entries.ravel().tolist())) <= {int, float, list}:
            raise malformed(field, "numbers only", "a list that holds something else")
        return as_float32(entries.astype(np.float64))  # refuses the lists that a ragged one holds
    except (ValueError, TypeError, OverflowError):
        raise malformed(field, "nested lists of numbers, all of one length", "a ragged list") from None


def as_float32(array: np.ndarray) -> np.ndarray:
    """float32, without a copy where it is float32 already; what overflows becomes infinite."""
    if array.dtype == np.float32:
        return array
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def to_wire(array: np.ndarray) -> np.ndarray:
    """Contiguous and little-endian, of a dtype that `from_buffer` takes."""
    little = np.ascontiguousarray(array)
    little = little.astype(little.dtype.newbyteorder("<"), copy=False)
    if little.dtype.str not in _DTYPES:
        raise TinyVLAError("malformed", f"an array of {array.dtype} cannot be sent", actual=str(array.dtype))
    return little
