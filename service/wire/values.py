"""Scalars of a request map, checked: each refusal names the field, what was expected and what came."""

from __future__ import annotations

import math

from policy.errors import TinyVLAError

MAX_TEXT = (
    4096  # characters; an instruction is a sentence, and tokenising a body-long one would stall the engine
)
MAX_NAME = 256
_SHOWN = 80


def shown(value: object) -> str:
    """A value as an error message may hold it: short, printable, encodable."""
    if value is None:
        return "nothing"
    if isinstance(value, str | int | float):
        text = repr(value) if len(str(value)) <= _SHOWN else repr(str(value)[:_SHOWN]) + " ..."
        return encodable(text)
    if isinstance(value, list | tuple):
        return encodable(repr(value)) if len(value) <= 4 and all(map(_plain, value)) else "a list"
    return "a map" if isinstance(value, dict) else type(value).__name__


def _plain(value: object) -> bool:
    return isinstance(value, int | float) and len(str(value)) < 20


def encodable(text: str) -> str:
    """Text that UTF-8 can hold: JSON lets lone surrogates through."""
    return text.encode("utf-8", "backslashreplace").decode()


def malformed(field: str, expected: str, actual: str) -> TinyVLAError:
    """The message does not have the form that the protocol gives it."""
    field = encodable(field[:MAX_NAME])
    return TinyVLAError(
        "malformed",
        f"{field}: expected {expected}, got {actual}",
        field=field,
        expected=expected,
        actual=actual,
    )


def as_map(value: object, field: str, *, limit: int = MAX_NAME) -> dict[str, object]:
    """A map with text keys, at most `limit` of them."""
    if not isinstance(value, dict):
        raise malformed(field, "a map", shown(value))
    if len(value) > limit:
        raise malformed(field, f"at most {limit} entries", str(len(value)))
    for key in value:
        if not isinstance(key, str):
            raise malformed(field, "text keys", shown(key))
    return value


def as_text(value: object, field: str, *, limit: int = MAX_TEXT) -> str:
    """Text of at most `limit` characters."""
    if not isinstance(value, str):
        raise malformed(field, "text", shown(value))
    if len(value) > limit:
        raise malformed(field, f"at most {limit} characters", f"{len(value)} characters")
    if not value.isascii() and encodable(value) != value:
        raise malformed(field, "text that UTF-8 can hold", "a lone surrogate")
    return value


def as_name(value: object, field: str) -> str:
    """Text of at most `MAX_NAME` characters: what names a policy or a session."""
    return as_text(value, field, limit=MAX_NAME)


def as_int(value: object, field: str) -> int:
    """An integer of 64 bits."""
    if type(value) is not int:
        raise malformed(field, "an integer", shown(value))
    if not -(2**63) <= value < 2**63:
        raise malformed(field, "an integer of 64 bits", "a larger one")
    return value


def as_number(value: object, field: str) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise malformed(field, "a number", shown(value))
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise malformed(field, "a finite number", str(number))
    return number
