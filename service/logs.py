"""Log lines as text or JSON, each with its request's id, written by a thread of their own."""

from __future__ import annotations

import atexit
import json
import logging
import logging.handlers
import queue
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from service import request_id

LogFormat = Literal["text", "json"]
_WAITING = 10_000  # lines; what comes on top while nobody reads the output is dropped
_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def configure_logs(form: LogFormat, level: str, stream: TextIO | None = None) -> Callable[[], None]:
    """Send every logger's lines to `stream` (default: standard error), from `level` on.

    Returns:
        A function that waits until what was logged so far is written, for who prints something after it.
    """
    waiting: queue.Queue[logging.LogRecord] = queue.Queue(_WAITING)
    output = logging.StreamHandler(sys.stderr if stream is None else stream)
    listener = logging.handlers.QueueListener(waiting, output)
    handler = _Dropping(waiting)
    handler.setFormatter(JsonLines() if form == "json" else TextLines(_TEXT))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("uvicorn.error", "PIL"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
    # A line for every form that does not read, from who has a line for the refusal already.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    logging.captureWarnings(True)
    listener.start()
    atexit.register(listener.stop)
    return waiting.join


class _Dropping(logging.handlers.QueueHandler):
    """Neither the engine nor the event loop ever waits for a terminal or a pipe."""

    def enqueue(self, record: logging.LogRecord) -> None:
        """Put a line in the queue, or drop it when the queue is full."""
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            return


class JsonLines(logging.Formatter):
    """One JSON object a line: `time`, `level`, `logger`, `message`, `request_id`, and what the line is about."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_about(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextLines(logging.Formatter):
    """The message, then `key=value` of what it is about."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        first, newline, trace = super().format(record).partition("\n")
        about = "".join(f" {key}={_plain(value)}" for key, value in _about(record).items())
        return f"{first}{about}{newline}{trace}"


def _about(record: logging.LogRecord) -> dict[str, object]:
    mark = request_id.current()
    fields: Mapping[str, object] = getattr(record, "fields", {})
    return {**({"request_id": mark.id} if mark is not None else {}), **fields}


def _plain(value: object) -> str:
    """Without spaces as it is, otherwise quoted; a line break never begins a line of its own."""
    text = str(value)
    return text if text.isprintable() and " " not in text and text else json.dumps(text)
