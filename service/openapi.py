"""What the OpenAPI document says of `POST /act`: the same fields as PROTOCOLS, for people and generators."""

from __future__ import annotations

from typing import Any

from policy.errors import STATUS_BY_CODE
from policy.observation import MAX_SAMPLES

_PROBLEM: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "enum": list(STATUS_BY_CODE)},
        "field": {"type": "string"},
        "expected": {"type": "string"},
        "actual": {"type": "string"},
    },
}
_BASE64 = {"type": "string", "contentEncoding": "base64"}
_SHAPE = {"type": "array", "items": {"type": "integer", "minimum": 0}}
_NUMBERS = {"type": "array", "items": {"type": "number"}}
_ROWS = {"type": "array", "items": _NUMBERS}
_RAW = {
    "type": "object",
    "required": ["data", "shape", "dtype"],
    "properties": {
        "data": _BASE64,
        "shape": _SHAPE,
        "dtype": {"type": "string", "examples": ["uint8", "float32"]},
    },
    "additionalProperties": False,
}
_IMAGE = {
    "oneOf": [
        {
            "type": "object",
            "required": [kind],
            "properties": {kind: _BASE64},
            "additionalProperties": False,
        }
        for kind in ("jpeg", "png")
    ]
    + [_RAW]
}
_INT64 = {"type": "integer", "format": "int64"}
_REQUEST_FIELDS: dict[str, Any] = {
    "policy": {"type": "string", "description": "which loaded policy; default the active one"},
    "instruction": {"type": "string", "description": "the task in words"},
    "images": {
        "type": "object",
        "additionalProperties": _IMAGE,
        "description": "camera name to image: every camera of the policy, any resolution",
    },
    "state": {"oneOf": [_NUMBERS, _RAW], "description": "[D], physical units, in the policy's order"},
    "sensors": {
        "type": "object",
        "additionalProperties": {"oneOf": [_ROWS, _RAW]},
        "description": "sensor name to window [T, C], oldest first",
    },
    "ddim_steps": {"type": "integer", "minimum": 1},
    "sampler": {"enum": ["ddim", "ddpm"]},
    "seed": {**_INT64, "minimum": 0},
    "prefix": {"oneOf": [_ROWS, _RAW], "description": "[d, A], actions already committed"},
    "samples": {"type": "integer", "minimum": 1, "maximum": MAX_SAMPLES},
    "session": {"type": "string"},
    "seq": _INT64,
    "timestamp_ns": _INT64,
    "deadline_ms": {"type": "number", "description": "counted from arrival; late work is refused"},
    "expects": {
        "type": "string",
        "description": "hash of the policy the client was made for, 12 characters or more",
    },
    "vl_max_age_ms": {
        "type": "number",
        "minimum": 0,
        "description": "how old the features of this session's images may be; they are then not looked at",
    },
}
_REQUEST = {
    "type": "object",
    "required": ["images", "state"],
    "properties": _REQUEST_FIELDS,
    "additionalProperties": False,
}
_ND = {
    "type": "object",
    "required": ["__numpy__", "dtype", "shape"],
    "properties": {"__numpy__": _BASE64, "dtype": {"type": "string"}, "shape": _SHAPE},
    "additionalProperties": False,
}
_OPENVLA: list[dict[str, Any]] = [
    {
        "type": "object",
        "required": [camera],
        "properties": {camera: _ND, "state": {"anyOf": [_ND, _NUMBERS]}, "instruction": {"type": "string"}},
        "not": {"required": ["images"]},
        "description": f"as {client} sends it: json-numpy arrays",
    }
    for camera, client in (("image", "OpenVLA"), ("full_image", "OpenVLA-OFT"))
]
_ENCODED = {
    "type": "object",
    "required": ["encoded"],
    "properties": {"encoded": {"type": "string", "contentMediaType": "application/json"}},
    "additionalProperties": False,
    "description": "either of OpenVLA's bodies, as text",
}
_FORM = {
    "type": "object",
    "required": ["payload"],
    "properties": {"payload": {"type": "string", "description": "the JSON request less its images"}},
    "additionalProperties": {"type": "string", "format": "binary", "description": "a camera's JPEG or PNG"},
}
_REPLY = {
    "type": "object",
    "required": [
        "actions",
        "rate_hz",
        "horizon",
        "policy",
        "ddim_steps",
        "sampler",
        "seed",
        "timing_ms",
    ],
    "properties": {
        "actions": {**_ROWS, "description": "[horizon, A], physical units"},
        "rate_hz": {"type": "number"},
        "horizon": {"type": "integer"},
        "uncertainty": {**_NUMBERS, "description": "[horizon], when samples > 1"},
        "policy": {"type": "string", "description": "name@first-12-of-hash"},
        "ddim_steps": {"type": "integer"},
        "sampler": {"enum": ["ddim", "ddpm"]},
        "seed": _INT64,
        "session": {"type": "string"},
        "seq": _INT64,
        "timestamp_ns": _INT64,
        "vl_age_ms": {
            "type": "number",
            "description": "age of the features used, when vl_max_age_ms was given",
        },
        "timing_ms": {
            "type": "object",
            "properties": {
                key: {"type": "integer" if key == "batch" else "number"}
                for key in ("decode", "queue", "encode", "sample", "total", "batch")
            },
        },
    },
}
_OPENVLA_REPLIES: list[dict[str, Any]] = [
    {**_ND, "description": "OpenVLA: the first action"},
    {"type": "array", "items": _ND, "description": "OpenVLA-OFT: the chunk"},
    {"type": "string", "contentMediaType": "application/json", "description": "either, as text"},
]
_ANYTHING = {"description": "the same map in MessagePack"}

ACT_REQUEST: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"anyOf": [_REQUEST, *_OPENVLA, _ENCODED]}},
            "application/msgpack": {"schema": _ANYTHING},
            "multipart/form-data": {"schema": _FORM},
        },
    }
}


def problems(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The error responses of an operation, by status."""
    by_status: dict[int | str, list[str]] = {}
    for code in codes:
        by_status.setdefault(STATUS_BY_CODE[code], []).append(code)
    content = {"application/problem+json": {"schema": _PROBLEM}, "application/msgpack": {"schema": _ANYTHING}}
    return {
        status: {"description": " or ".join(named), "content": content} for status, named in by_status.items()
    }


ACT_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "a chunk of actions",
        "content": {
            "application/json": {"schema": {"anyOf": [_REPLY, *_OPENVLA_REPLIES]}},
            "application/msgpack": {"schema": _ANYTHING},
        },
    },
    **problems(*STATUS_BY_CODE),
}
