"""Arrow columns of the format: vectors, embedded images, and the schema that `datasets` recognises."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from clients.lerobot_v3.episode import image_suffix

IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def data_schema(features: Mapping[str, Mapping[str, Any]]) -> pa.Schema:
    """Schema of the data files for info.json's features, with the `huggingface` metadata."""
    fields = [pa.field(key, _arrow_type(feature)) for key, feature in features.items()]
    described = {key: _hf_feature(feature) for key, feature in features.items()}
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": described}})})


def _arrow_type(feature: Mapping[str, Any]) -> pa.DataType:
    if feature["dtype"] == "image":
        return IMAGE_TYPE
    value = pa.type_for_alias(feature["dtype"])
    # lerobot stores a vector of length one as a plain number.
    return value if feature["shape"] == [1] else pa.list_(value, feature["shape"][0])


def _hf_feature(feature: Mapping[str, Any]) -> dict[str, Any]:
    if feature["dtype"] == "image":
        return {"_type": "Image"}
    value = {"dtype": feature["dtype"], "_type": "Value"}
    if feature["shape"] == [1]:
        return value
    # "Sequence" is read by every version of `datasets`; "List" only since its version 4.
    return {"feature": value, "length": feature["shape"][0], "_type": "Sequence"}


def vector_column(values: np.ndarray) -> pa.Array:
    """[T, D] as a fixed-size list, [T, 1] and [T] as plain numbers."""
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    if values.ndim == 1 or values.shape[1] == 1:
        return flat
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def image_column(frames: Sequence[bytes]) -> pa.StructArray:
    """Embedded images under the file names that lerobot gives them."""
    paths = [f"frame-{t:06d}{image_suffix(frame)}" for t, frame in enumerate(frames)]
    encoded, names = pa.array(frames, type=pa.binary()), pa.array(paths, type=pa.string())
    return pa.StructArray.from_arrays([encoded, names], fields=list(IMAGE_TYPE))


def read_vectors(column: pa.ChunkedArray) -> np.ndarray:
    """float32 [T, D] of a list column, [T, 1] of a plain one."""
    length = len(column)
    array = column.combine_chunks()
    while pa.types.is_list(array.type) or pa.types.is_fixed_size_list(array.type):
        array = array.flatten()
    return array.to_numpy(zero_copy_only=False).astype(np.float32).reshape(length, -1)


def read_images(column: pa.ChunkedArray) -> list[bytes]:
    """Encoded frames of an embedded image column; ValueError where one is not embedded."""
    frames = column.combine_chunks().field("bytes").to_pylist()
    if any(frame is None for frame in frames):
        raise ValueError("an image is referred to by its path instead of being embedded")
    return frames
