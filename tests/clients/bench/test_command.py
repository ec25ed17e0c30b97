"""`tinyvla bench serve` from its flags to its files, with a server and clients of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from clients.bench.cases import Case, Measurement
from clients.bench.command import main
from policy.errors import UsageError
from policy.null import NullPolicy
from service.running import RunningServer

QUICK = ["--seconds", "0.2", "--warmup", "1", "--sizes", "32x24"]


@pytest.mark.slow
def test_it_measures_a_server_of_its_own_and_the_bare_ones_beside_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--doors", "zmq", "openpi", *QUICK, "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "bench.json").read_text())
    doors = [row["case"]["door"] for row in report["measured"]]
    assert doors == ["zmq-chunk", "zmq", "echo", "echo-chunk", "openpi"]
    for row in report["measured"]:
        assert row["errors"] == {}
        assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"] <= row["max_ms"]
        assert 0 < round(row["per_second"] * row["seconds"]) <= row["calls"]
    assert len(report["comparisons"]) == 3
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert "p99" in capfd.readouterr().out


@pytest.mark.slow
def test_it_measures_a_server_that_runs_already_and_writes_no_token(tmp_path: Path) -> None:
    with RunningServer(NullPolicy, token="s3cret") as server:
        there = ["--server", server.http_url, "--zmq", server.zmq_url, "--token", "s3cret"]
        asked = ["--doors", "http-json", "--clients", "2", "--rates", "20"]
        assert main(["serve", *asked, *there, *QUICK, "--out", str(tmp_path)]) == 0
    written = (tmp_path / "bench.json").read_text()
    [row] = json.loads(written)["measured"]
    assert row["calls"] > 0
    assert row["health_p99_ms"] is None or row["health_p99_ms"] > 0
    assert "s3cret" not in written


@pytest.fixture
def http_json_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is really measured."""

    def measure(case: Case, *how: object) -> Measurement:
        if case.door == "http-json":
            raise UsageError("a client of the benchmark failed: killed")
        return Measurement(case, 1.0, 100, {}, 1.0, 2.0, 3.0, 9.0, 100.0, 0.5)

    monkeypatch.setattr("clients.bench.command.measure", measure)


@pytest.mark.usefixtures("http_json_fails")
def test_a_case_that_fails_costs_no_other(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with RunningServer(NullPolicy) as server:
        there = ["--server", server.http_url, "--out", str(tmp_path), "--doors"]
        assert main(["serve", *there, "http-json", "http-msgpack"]) == 1
        [row] = json.loads((tmp_path / "bench.json").read_text())["measured"]
        assert row["case"]["door"] == "http-msgpack"
        assert "not measured: a client of the benchmark failed: killed" in capfd.readouterr().out
        with pytest.raises(UsageError, match=r"not one case.*killed"):
            main(["serve", *there, "http-json"])


@pytest.mark.parametrize("complete", [0, 1])
def test_an_interruption_keeps_what_is_complete_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], complete: int
) -> None:
    asked: list[Case] = []

    def measure(case: Case, *how: object) -> Measurement:
        asked.append(case)
        if len(asked) > complete:
            raise KeyboardInterrupt
        return Measurement(case, 1.0, 100, {}, 1.0, 2.0, 3.0, 9.0, 100.0, 0.5)

    monkeypatch.setattr("clients.bench.command.measure", measure)
    with RunningServer(NullPolicy) as server:
        there = ["--server", server.http_url, "--doors", "http-msgpack", "http-json", "--out", str(tmp_path)]
        assert main(["serve", *there]) == 130
    said = capfd.readouterr().out
    assert f"interrupted: {complete} of 2 cases were measured" in said
    assert ("p99" in said) == (tmp_path / "bench.json").exists() == bool(complete)
    if complete:
        report = json.loads((tmp_path / "bench.json").read_text())
        assert [row["case"]["door"] for row in report["measured"]] == ["http-msgpack"]
        assert report["interrupted"]


@pytest.mark.usefixtures("http_json_fails")
def test_without_openpi_s_client_its_door_is_left_out_unless_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "openpi_client", None)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="openpi-client"):
        main(["serve", "--doors", "http-msgpack", "openpi", "--out", str(tmp_path)])
    with RunningServer(NullPolicy) as server:
        main(["serve", "--server", server.http_url, "--out", str(tmp_path)])
    doors = {row["case"]["door"] for row in json.loads((tmp_path / "bench.json").read_text())["measured"]}
    assert "http-msgpack" in doors
    assert not doors & {"openpi", "echo", "echo-chunk"}
    assert "left out: the openpi door" in capfd.readouterr().out


def test_a_server_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        main(["serve", "--server", "http://127.0.0.1:9", "--doors", "http-json", "--out", str(tmp_path)])
    assert "127.0.0.1:9" in str(error.value)


def test_a_server_that_does_not_start_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        main(["serve", "--bundle", str(tmp_path / "none"), "--doors", "zmq", "--out", str(tmp_path)])
    assert "none" in str(error.value)


def test_without_serve_the_usage_is_told() -> None:
    with pytest.raises(UsageError, match="bench serve"):
        main([])
