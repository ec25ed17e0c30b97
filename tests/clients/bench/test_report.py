"""Which cases are measured, what is said of them, and what is written."""

from __future__ import annotations

import io
import json
import math
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from clients.bench.cases import DOORS, Case, Measurement, cases_of
from clients.bench.chart import write_chart
from clients.bench.load import Samples
from clients.bench.measure import _health_asked, summarise
from clients.bench.report import comparisons, print_table, write_json
from clients.bench.settings import BenchSettings, read_settings
from policy.errors import UsageError

CASE = Case("zmq", "raw", 224, 224, 1, 0.0)


def measured(case: Case = CASE, *, p50: float = 1.0, per_second: float = 100.0) -> Measurement:
    return Measurement(case, 1.0, 100, {}, p50, 2.0, 3.0, 9.0, per_second, 0.5)


def test_each_door_is_measured_with_what_it_can_carry() -> None:
    cases = cases_of(DOORS, ("raw", "jpeg"), [(224, 224)], (1,), (0.0,))
    carried: dict[str, list[str]] = {}
    for case in cases:
        carried.setdefault(case.door, []).append(case.encoding)
    assert carried["zmq"] == carried["http-msgpack"] == carried["http-json"] == ["raw", "jpeg"]
    assert carried["http-multipart"] == ["jpeg"]
    assert carried["openpi"] == carried["echo"] == carried["echo-chunk"] == carried["groot"] == ["raw"]


def test_a_door_is_measured_right_after_its_bare_servers() -> None:
    doors = [case.door for case in cases_of(("zmq", "openpi"), ("raw",), [(8, 8)], (1, 2), (0.0,))]
    assert doors == ["zmq-chunk", "zmq", "echo", "echo-chunk", "openpi"] * 2


def test_all_clients_calls_are_summed_up_together() -> None:
    samples = [
        Samples([1.0, 2.0], Counter(overloaded=1), in_time=1),
        Samples([3.0], Counter(overloaded=2, malformed=1), in_time=1),
    ]
    one = summarise(CASE, 2.0, samples, [0.1, 0.2])
    assert (one.calls, one.p50_ms, one.max_ms, one.per_second) == (3, 2.0, 3.0, 1.0)
    assert one.errors == {"overloaded": 3, "malformed": 1}
    assert one.health_p99_ms == pytest.approx(0.199)


def test_the_openpi_door_is_compared_with_the_bare_servers_of_the_same_case() -> None:
    openpi = replace(CASE, door="openpi")
    rows = [measured(replace(CASE, door="echo"), p50=1.0), measured(openpi, p50=1.25)]
    other = measured(replace(CASE, door="echo", width=8), p50=7.0)
    assert comparisons([other, *rows]) == [f"{openpi}: p50 +0.250 ms against the bare server (echo)"]


def test_a_door_that_never_answered_is_compared_with_nothing() -> None:
    dead = summarise(CASE, 1.0, [Samples([], Counter(no_answer=5))], [])
    assert comparisons([measured(replace(CASE, door="zmq-chunk")), dead]) == []


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_server_that_goes_away_while_its_health_is_asked_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    health: list[float] = []
    asked = threading.Semaphore(0)

    class Gone(httpx.Client):
        def get(self, *of: object, **how: object) -> httpx.Response:  # type: ignore[override]
            asked.release()
            raise httpx.ConnectError("Connection refused")

    monkeypatch.setattr("clients.bench.measure.httpx.Client", Gone)
    with _health_asked("http://127.0.0.1:9", health):
        for _ in range(3):  # it goes on asking
            assert asked.acquire(timeout=30)
    assert health == []


def test_many_clients_are_compared_with_one() -> None:
    four = replace(CASE, clients=4)
    said = comparisons([measured(per_second=6.5), measured(four, per_second=26.0)])
    assert said == [f"{four}: 4.00x the throughput of one client"]


def test_a_case_without_any_answer_is_told_and_written_all_the_same(tmp_path: Path) -> None:
    dead = summarise(CASE, 1.0, [Samples([], Counter(overloaded=5))], [])
    out = io.StringIO()
    print_table(Console(file=out, width=160), [dead])
    assert "overloaded 5" in out.getvalue()
    write_json(tmp_path / "bench.json", [dead], {}, "null@0")
    [row] = json.loads((tmp_path / "bench.json").read_text())["measured"]
    assert row["p50_ms"] is None
    assert math.isnan(dead.p50_ms)
    write_chart(tmp_path / "bench.png", [dead, measured()], "title")


def test_the_picture_is_a_png(tmp_path: Path) -> None:
    path = tmp_path / "new" / "bench.png"
    write_chart(path, [measured(), measured(replace(CASE, door="echo"))], "title")
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--seconds", "soon"], "--seconds"),
        (["--doors", "telnet"], "telnet"),
        (["--sizes", "224"], "--sizes 224"),
        (["--sizes", "0x5"], "--sizes 0x5"),
        (["--clients", "0"], "--clients"),
        (["--rates", "-1"], "--rates"),
        (["--seconds", "0"], "--seconds"),
        (["--null-ms", "-1"], "--null-ms"),
        (["--doors", "http-multipart"], "multipart"),
        (["--token", "x"], "--server"),
        (["--server", "http://127.0.0.1:1", "--null-ms", "5"], "--null-ms"),
    ],
)
def test_flags_that_make_no_sense_are_one_line(argv: list[str], said: str) -> None:
    with pytest.raises(UsageError) as error:
        read_settings(argv)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_of_a_server_that_runs_already_only_doors_with_an_address_are_measured() -> None:
    settings = BenchSettings(server="http://127.0.0.1:1", zmq="tcp://127.0.0.1:2", encodings=("raw",))
    assert {case.door for case in settings.cases()} >= {"zmq", "http-json", "openpi"}
    assert "groot" not in {case.door for case in settings.cases()}
