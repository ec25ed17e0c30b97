"""The one error type that crosses every boundary: a stable code for programs, one line for people."""

from __future__ import annotations

# Code -> HTTP status. The ZeroMQ door sends the same map without HTTP around it.
STATUS_BY_CODE: dict[str, int] = {
    "malformed": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "unknown_policy": 404,
    "superseded": 409,
    "too_large": 413,
    "unsupported_media": 415,
    "contract_mismatch": 422,
    "internal": 500,
    "overloaded": 503,
    "not_ready": 503,
    "deadline_exceeded": 504,
}


class TinyVLAError(Exception):
    """A refusal that a person can act on.

    Args:
        code: stable identifier, one of `STATUS_BY_CODE`.
        detail: one line: what was wrong and what to do.
        field: the request or spec field at fault, such as ``images.corner4``.
        expected: what the contract asks for, in words or JSON.
        actual: what came instead.
    """

    retry_after_s: float | None = None
    """Seconds after which the server asked to be tried again, where it did."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        field: str | None = None,
        expected: str | None = None,
        actual: str | None = None,
    ) -> None:
        if code not in STATUS_BY_CODE:
            raise ValueError(f"unknown error code {code!r}")
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.field = field
        self.expected = expected
        self.actual = actual

    def __reduce__(self) -> tuple[object, ...]:
        """As it is from one process to another; exceptions with keywords cannot do that by themselves."""
        return type(self), (self.code, self.detail), self.__dict__

    @property
    def status(self) -> int:
        """HTTP status that goes with the code."""
        return STATUS_BY_CODE[self.code]

    def problem(self) -> dict[str, object]:
        """RFC 9457 problem details; keys without a value are left out."""
        body: dict[str, object] = {
            "type": f"urn:tinyvla:{self.code}",
            "title": self.code.replace("_", " "),
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }
        for key in ("field", "expected", "actual"):
            value = getattr(self, key)
            if value is not None:
                body[key] = value
        return body


class UsageError(Exception):
    """Bad input to a command: printed as one line, exit code 2, never a traceback."""


def contract_mismatch(field: str, expected: str, actual: str) -> TinyVLAError:
    """The observation does not fit the policy's contract."""
    return TinyVLAError(
        "contract_mismatch",
        f"{field}: expected {expected}, got {actual}",
        field=field,
        expected=expected,
        actual=actual,
    )
