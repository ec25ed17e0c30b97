"""Lines as text or JSON, one per error, every request at debug level, and no flood or stuck terminal does harm."""

from __future__ import annotations

import io
import json
import logging
import queue
import warnings
from collections.abc import Callable, Iterator

import httpx
import pytest

from policy.errors import TinyVLAError
from service import access_log, request_id
from service.access_log import _AT_ONCE, _PER_SECOND, Throttle
from service.logs import JsonLines, TextLines, _Dropping, configure_logs
from service.metrics import Metrics
from service.wire import msgpack_codec
from service.wire.messages import ActRequest

log = logging.getLogger("test.logs")


@pytest.fixture(autouse=True)
def _logging_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(access_log, "_throttle", Throttle())
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    request_id.resume(None)


@pytest.fixture
def told() -> Callable[[str, str], tuple[io.StringIO, Callable[[], None]]]:
    """Configures logs to a text buffer; returns it and what waits for it."""

    def configure(form: str, level: str) -> tuple[io.StringIO, Callable[[], None]]:
        stream = io.StringIO()
        return stream, configure_logs(form, level, stream)  # type: ignore[arg-type]

    return configure


def test_a_json_line_holds_what_when_who_and_the_request(told: Callable[..., tuple]) -> None:
    stream, flush = told("json", "info")
    request_id.begin("mine")
    log.info("so %s", "it\nis", extra={"fields": {"code": "malformed", "ms": 1.5}})
    flush()
    [line] = stream.getvalue().splitlines()
    read = json.loads(line)
    assert read.pop("time").endswith("+00:00")
    assert read == {
        "level": "info",
        "logger": "test.logs",
        "message": "so it\nis",
        "request_id": "mine",
        "code": "malformed",
        "ms": 1.5,
    }


def test_a_traceback_stays_within_its_json_line(told: Callable[..., tuple]) -> None:
    stream, flush = told("json", "info")
    try:
        raise ValueError("what")
    except ValueError:
        log.exception("it broke")
    flush()
    [line] = stream.getvalue().splitlines()
    assert "ValueError: what" in json.loads(line)["exception"]


def test_a_text_line_ends_with_what_it_is_about(told: Callable[..., tuple]) -> None:
    stream, flush = told("text", "info")
    request_id.begin("mine")
    log.warning("refused", extra={"fields": {"code": "malformed", "detail": "a\nb c"}})
    log.debug("not worth a line")
    flush()
    [line] = stream.getvalue().splitlines()
    assert line.endswith(r'WARNING test.logs: refused request_id=mine code=malformed detail="a\nb c"')


def test_lines_are_dropped_rather_than_waited_for() -> None:
    """The output is stuck: nobody takes lines out of the queue."""
    waiting: queue.Queue[logging.LogRecord] = queue.Queue(1)
    handler = _Dropping(waiting)
    for _ in range(3):
        handler.handle(logging.makeLogRecord({"msg": "line"}))
    assert waiting.qsize() == 1


@pytest.mark.parametrize("formatter", [JsonLines(), TextLines("%(message)s")], ids=["json", "text"])
def test_what_no_json_can_hold_is_written_all_the_same(formatter: logging.Formatter) -> None:
    record = logging.makeLogRecord({"msg": "x", "fields": {"odd": object(), "empty": ""}})
    assert "odd" in formatter.format(record)


def records(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "service.access_log"]


def test_each_refusal_is_one_line_with_its_code_and_id(
    http: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    http.post("/act", content=b"\xc1", headers={"content-type": msgpack_codec.CONTENT_TYPE})
    [line] = records(caplog)
    assert line.__dict__["fields"]["code"] == "malformed"
    assert line.__dict__["fields"]["door"] == "http"
    assert line.__dict__["fields"]["detail"]
    assert line.__dict__["fields"]["ms"] >= 0


def test_each_request_is_a_line_at_debug_level_and_none_otherwise(
    http: httpx.Client, request_: ActRequest, caplog: pytest.LogCaptureFixture
) -> None:
    body, headers = msgpack_codec.encode_request(request_), {"content-type": msgpack_codec.CONTENT_TYPE}
    caplog.set_level(logging.INFO)
    assert http.post("/act", content=body, headers=headers).status_code == 200
    assert records(caplog) == []
    caplog.set_level(logging.DEBUG)
    assert http.post("/act", content=body, headers=headers).status_code == 200
    assert [record.getMessage() for record in records(caplog)] == ["answered"]


@pytest.mark.parametrize(
    ("code", "level"),
    [
        ("malformed", logging.INFO),
        ("overloaded", logging.WARNING),
        ("superseded", logging.DEBUG),
        ("vanished", logging.DEBUG),
    ],
)
def test_what_happens_every_day_is_quieter_than_what_an_operator_should_see(
    code: str, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    error = None if code == "vanished" else TinyVLAError(code, "so it is")
    access_log.answered(Metrics(), "http", code, error)
    [line] = records(caplog)
    assert line.levelno == level


def test_a_flood_of_refusals_is_thinned_out_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    throttle = Throttle()
    allowed = [throttle.ask("malformed", 0.0) for _ in range(100)]
    assert allowed == [0] * int(_AT_ONCE) + [None] * (100 - int(_AT_ONCE))
    assert throttle.ask("overloaded", 0.0) == 0  # another code has its own share
    assert throttle.ask("malformed", 1 / _PER_SECOND) == 100 - _AT_ONCE
    assert throttle.ask("malformed", 1 / _PER_SECOND) is None
    assert [throttle.ask("malformed", 1e6) for _ in range(2)] == [1, 0]


def test_warnings_of_libraries_are_lines_like_others(told: Callable[..., tuple]) -> None:
    stream, flush = told("json", "info")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("mind", stacklevel=1)
    flush()
    assert json.loads(stream.getvalue())["logger"] == "py.warnings"
