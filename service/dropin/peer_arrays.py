"""Images and vectors in the shapes that peers send them, brought to ours: uint8 [H, W, 3] and float32 [D]."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from service.wire import arrays
from service.wire.values import MAX_NAME, malformed, shown

_MAX_DEPTH = 6
_MAX_LEAVES = 512

# Reads the peer's own form of an array or NumPy scalar; None when the map is an ordinary one.
ReadForm = Callable[[Mapping[object, object], str], object | None]


def flatten(tree: object, separator: str, read_form: ReadForm) -> dict[str, object]:
    """A nested map with its arrays read, as one level of joined keys; raises `malformed`."""
    flat: dict[str, object] = {}
    if not isinstance(tree, dict):
        raise malformed("message", "a map", shown(tree))

    def walk(branch: Mapping[object, object], prefix: str, depth: int) -> None:
        for key, value in branch.items():
            name = prefix + _text_key(key)
            if isinstance(value, dict):
                form = read_form(value, name)
                if form is not None:
                    value = form
                elif depth == _MAX_DEPTH:
                    raise malformed(name, f"at most {_MAX_DEPTH} levels of maps", "more")
                else:
                    walk(value, name + separator, depth + 1)
                    continue
            if len(flat) == _MAX_LEAVES:
                raise malformed("message", f"at most {_MAX_LEAVES} values", "more")
            flat[name] = value

    walk(tree, "", 1)
    return flat


def is_image(value: object) -> bool:
    """Whether a value can be a picture, [H, W, 3] or [3, H, W]."""
    return isinstance(value, np.ndarray) and value.ndim == 3 and 3 in (value.shape[0], value.shape[2])


def as_image(value: object, field: str) -> np.ndarray:
    """uint8 [H, W, 3] from [H, W, 3] or [3, H, W], uint8 or float in 0 ... 1."""
    if not isinstance(value, np.ndarray) or value.ndim != 3:
        actual = f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else shown(value)
        raise malformed(field, "an image [H, W, 3]", actual)
    if value.shape[-1] != 3 and value.shape[0] == 3:
        value = value.transpose(1, 2, 0)
    if value.dtype.kind != "f":
        return value
    if not value.size or not (np.isfinite(value).all() and value.min() >= 0 and value.max() <= 1):
        raise malformed(field, "float images in 0 ... 1", "values outside, or none")
    return np.rint(value * 255).astype(np.uint8)


def as_vector(value: object, field: str) -> np.ndarray:
    """float32 [D] from an array, a list or a number; leading dimensions of one are dropped."""
    if isinstance(value, bool | str | bytes) or value is None:
        raise malformed(field, "numbers", shown(value))
    if isinstance(value, list):
        value = arrays.from_lists(value, field)
    vector = np.asarray(value)
    if vector.dtype.kind not in "iuf" or (vector.ndim and vector.size != vector.shape[-1]):
        raise malformed(field, "a vector of numbers", f"{vector.dtype} {list(vector.shape)}")
    return arrays.as_float32(vector.reshape(-1))


class PeerArrays:
    """See `service.wire.request_map.ArrayReader`: the values are arrays already."""

    def image(self, value: object, field: str) -> np.ndarray:
        return as_image(value, field)

    def array(self, value: object, field: str) -> np.ndarray:
        if isinstance(value, list):
            return arrays.from_lists(value, field)
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf":
            raise malformed(field, "an array of numbers", shown(value))
        return arrays.as_float32(value)


def _text_key(key: object) -> str:
    if isinstance(key, bytes):
        key = key.decode("utf-8", "backslashreplace")
    if not isinstance(key, str) or len(key) > MAX_NAME:
        raise malformed("message", f"text keys of at most {MAX_NAME} characters", shown(key))
    return key
