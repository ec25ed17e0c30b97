"""Errors as RFC 9457 problem maps and back."""

from __future__ import annotations

from collections.abc import Mapping

from policy.errors import STATUS_BY_CODE, TinyVLAError
from service.wire.values import encodable


def problem_of(error: TinyVLAError) -> dict[str, object]:
    """The problem map of an error, in text that every encoding can carry."""
    return {
        key: encodable(value) if isinstance(value, str) else value for key, value in error.problem().items()
    }


def error_of(problem: object) -> TinyVLAError:
    """The error that a problem map tells; a map from another server or proxy is read as well as it can be."""
    if not isinstance(problem, Mapping):
        return TinyVLAError(
            "internal", f"the server answered something that is no problem map: {problem!r:.200}"
        )
    code = problem.get("code")
    if not isinstance(code, str) or code not in STATUS_BY_CODE:
        status = problem.get("status")
        code = "malformed" if isinstance(status, int) and 400 <= status < 500 else "internal"

    def text(key: str) -> str | None:
        value = problem.get(key)
        return value if isinstance(value, str) else None

    detail = text("detail") or text("title") or code
    return TinyVLAError(code, detail, field=text("field"), expected=text("expected"), actual=text("actual"))
