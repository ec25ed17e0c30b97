"""`tinyvla bench serve` from its flags to its files, with a server and clients of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

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
