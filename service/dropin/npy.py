"""The bytes of `np.save`, read without `np.load`, which allocates whatever a header claims before it looks."""

from __future__ import annotations

import io
import math

import numpy as np

from service.wire import arrays
from service.wire.bounded_msgpack import FEW, too_many
from service.wire.values import malformed

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npy(data: bytes, field: str) -> np.ndarray | list:
    """The array, a view of `data`; text arrays become nested lists.

    Raises:
        TinyVLAError: `malformed`, for objects too, or `too_large` for more texts than a message may hold values.
    """
    stream = io.BytesIO(data)
    try:
        shape, by_columns, dtype = _HEADERS[np.lib.format.read_magic(stream)](stream)
    except Exception:  # NumPy's reader raises ValueError, SyntaxError, TokenError, RecursionError, ...
        raise malformed(field, "an array as np.save writes it", "bytes that are none") from None
    body = memoryview(data)[stream.tell() :]
    if dtype.kind == "U":
        return _texts(body, shape, dtype, field)
    array = arrays.from_buffer(
        body, dtype.str, shape[::-1] if by_columns else shape, field, arrays.PEER_DTYPES
    )
    return array.T if by_columns else array


def write_npy(array: np.ndarray) -> bytes:
    """What `np.save` writes."""
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()


def _texts(body: memoryview, shape: tuple[int, ...], dtype: np.dtype, field: str) -> list:
    if math.prod(shape) > FEW:
        raise too_many(field, FEW)
    try:
        if not shape or math.prod(shape) * dtype.itemsize != body.nbytes:
            raise ValueError("a size that does not fit")
        return np.frombuffer(body, dtype).reshape(shape).tolist()
    except ValueError:
        raise malformed(field, "an array of text", "bytes that are none") from None
