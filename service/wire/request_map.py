"""The request map of PROTOCOLS to an `ActRequest` and back; encodings differ only in how they hold arrays."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar, cast

import numpy as np

from policy.errors import TinyVLAError
from policy.observation import Observation, SampleOptions
from service.wire.images import ImageFormat, encode_image
from service.wire.messages import ActRequest
from service.wire.values import MAX_NAME, as_int, as_map, as_name, as_number, as_text, malformed, shown

FIELDS = (
    "policy",
    "instruction",
    "images",
    "state",
    "sensors",
    "ddim_steps",
    "sampler",
    "seed",
    "prefix",
    "samples",
    "session",
    "seq",
    "timestamp_ns",
    "deadline_ms",
    "expects",
    "vl_max_age_ms",
)
_KNOWN = frozenset(FIELDS)
_MAX_STREAMS = 64  # cameras or sensors of one robot

Value = TypeVar("Value")
Default = TypeVar("Default")


class ArrayReader(Protocol):
    """How an encoding holds images and arrays: from its form to NumPy."""

    def image(self, value: object, field: str) -> np.ndarray:
        """uint8 [H, W, 3] RGB."""
        ...

    def array(self, value: object, field: str) -> np.ndarray:
        """float32, of any shape."""
        ...


class ArrayWriter(Protocol):
    """The other way: from NumPy to the form an encoding holds."""

    def image(self, image: np.ndarray) -> object:
        """A camera's picture."""
        ...

    def array(self, array: np.ndarray) -> object:
        """State, sensor window or prefix."""
        ...


@dataclass(frozen=True)
class InlineWriter:
    """An `ArrayWriter` for encodings that hold arrays and images in the map itself."""

    array: Callable[[np.ndarray], object]  # an array's form
    file: Callable[[bytes], object]  # the form of a JPEG or PNG file
    image_format: ImageFormat = "raw"
    quality: int = 90

    def image(self, image: np.ndarray) -> object:
        if self.image_format == "raw":
            return self.array(image)
        return {self.image_format: self.file(encode_image(image, self.image_format, self.quality))}


def read_request(fields: Mapping[str, object], arrays: ArrayReader) -> ActRequest:
    """Check every field's form; that shapes fit the policy is the contract's matter, not the codec's.

    Raises:
        TinyVLAError: `malformed`, naming the field; or what decoding an image raises.
    """
    if not _KNOWN.issuperset(fields):
        raise _unknown(next(key for key in fields if key not in _KNOWN))
    for key, what in (("images", "a map from camera name to image"), ("state", "an array of numbers")):
        if fields.get(key) is None:
            raise malformed(key, what, "nothing")

    # Scalars first: a request that is refused for one of them should not cost the decoding of its images.
    options = SampleOptions(
        ddim_steps=_given(fields, "ddim_steps", as_int),
        sampler=_sampler(fields.get("sampler")),
        seed=_given(fields, "seed", as_int),
        prefix=None if _is_empty(fields.get("prefix")) else arrays.array(fields["prefix"], "prefix"),
        samples=_given(fields, "samples", as_int, 1),
    )
    instruction = _given(fields, "instruction", as_text, "")
    policy, session, expects = (_given(fields, key, as_name) for key in ("policy", "session", "expects"))
    seq, timestamp_ns = _given(fields, "seq", as_int), _given(fields, "timestamp_ns", as_int)
    deadline_ms = _given(fields, "deadline_ms", as_number)
    vl_max_age_ms = _given(fields, "vl_max_age_ms", as_number)
    if vl_max_age_ms is not None and vl_max_age_ms < 0:
        raise malformed("vl_max_age_ms", "a number from 0", shown(vl_max_age_ms))
    state = arrays.array(fields["state"], "state")
    sensors = _given(fields, "sensors", _streams, {})
    images = _streams(fields["images"], "images")
    return ActRequest(
        observation=Observation(
            images={name: arrays.image(value, f"images.{name}") for name, value in images.items()},
            state=state,
            instruction=instruction,
            sensors={
                # An absent sensor may be told by an empty window or null as well as by leaving it out.
                name: arrays.array(value, f"sensors.{name}")
                for name, value in sensors.items()
                if not _is_empty(value)
            },
        ),
        options=options,
        policy=policy,
        session=session,
        seq=seq,
        timestamp_ns=timestamp_ns,
        deadline_ms=deadline_ms,
        expects=expects,
        vl_max_age_ms=vl_max_age_ms,
    )


def write_request(request: ActRequest, arrays: ArrayWriter) -> dict[str, object]:
    """The request map; fields at their default are left out."""
    observation, options = request.observation, request.options
    fields: dict[str, object] = {
        "policy": request.policy,
        "instruction": observation.instruction or None,
        "state": arrays.array(observation.state),
        "sensors": {name: arrays.array(window) for name, window in observation.sensors.items()} or None,
        "ddim_steps": options.ddim_steps,
        "sampler": options.sampler if options.sampler != "ddim" else None,
        "seed": options.seed,
        "prefix": arrays.array(options.prefix) if options.prefix is not None else None,
        "samples": options.samples if options.samples != 1 else None,
        "session": request.session,
        "seq": request.seq,
        "timestamp_ns": request.timestamp_ns,
        "deadline_ms": request.deadline_ms,
        "expects": request.expects,
        "vl_max_age_ms": request.vl_max_age_ms,
        # Behind what is small, so that a message of frames leaves, and arrives, in fewer pieces.
        "images": {name: arrays.image(image) for name, image in observation.images.items()},
    }
    return {key: value for key, value in fields.items() if value is not None}


def _given(
    fields: Mapping[str, object],
    key: str,
    read: Callable[[object, str], Value],
    default: Default = None,  # type: ignore[assignment]
) -> Value | Default:
    """A field that may be left out, or told by null."""
    value = fields.get(key)
    return default if value is None else read(value, key)


def _is_empty(value: object) -> bool:
    """No rows: told by null, or by a list without any, which cannot say how wide they would be."""
    return value is None or (isinstance(value, list) and not value)


def _streams(value: object, field: str) -> dict[str, object]:
    return as_map(value, field, limit=_MAX_STREAMS)


def _unknown(key: str) -> TinyVLAError:
    close = difflib.get_close_matches(key[:MAX_NAME], FIELDS, 1)
    known = f"{close[0]}, perhaps" if close else f"one of {', '.join(FIELDS)}"
    return malformed(key, known, "an unknown field")


def _sampler(value: object) -> Literal["ddim", "ddpm"]:
    if value is None:
        return "ddim"
    if not isinstance(value, str) or value not in ("ddim", "ddpm"):
        raise malformed("sampler", "'ddim' or 'ddpm'", shown(value))
    return cast(Literal["ddim", "ddpm"], value)
