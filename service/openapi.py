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
    "deadline_ms": {"type": "number"},
}
_REQUEST = {
    "type": "object",
    "required": ["images", "state"],
    "properties": _REQUEST_FIELDS,
    "additionalProperties": False,
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
        "timing_ms": {
            "type": "object",
            "properties": {
                key: {"type": "integer" if key == "batch" else "number"}
                for key in ("decode", "queue", "encode", "sample", "total", "batch")
            },
        },
    },
}
_ANYTHING = {"description": "the same map in MessagePack"}

ACT_REQUEST: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": _REQUEST},
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
        "content": {"application/json": {"schema": _REPLY}, "application/msgpack": {"schema": _ANYTHING}},
    },
    **problems(*(code for code in STATUS_BY_CODE if code != "forbidden")),
}
