"""`--view` and `--record-rrd`: what the viewer is given is what happened, and what is missing is one line."""

from __future__ import annotations

import os
import signal
import socket
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
from rerun.chunk import Chunk, RrdReader

from clients import rerun_viewer
from clients.inprocess import InProcessClient
from clients.receiver import EpisodeOutcome, Receiver, ReceiverSettings
from clients.rerun_view import RerunView
from clients.rerun_viewer import check_viewer, open_viewer
from clients.robots.null import NullRobot
from clients.tapped_robot import TappedRobot
from policy.errors import UsageError
from policy.null import NullPolicy, null_spec

SPEC = null_spec(cameras=("left", "right"), size=16)


def recorded(file: Path) -> tuple[list[EpisodeOutcome], dict[str, list[Chunk]]]:
    """Two episodes, and the file's chunks by entity path."""
    view = RerunView(SPEC, viewer=None, file=file)
    robot = TappedRobot(NullRobot(cameras=("left", "right"), periods=80, control_rate_hz=200.0), [view])
    settings = ReceiverSettings(inference_rate_hz=20.0, seed=1)
    receiver = Receiver(robot, InProcessClient(NullPolicy(SPEC)), SPEC, settings, view.log)
    outcomes = []
    for seed in range(2):
        outcomes.append(receiver.run_episode(seed, session="s", watcher=view))
        view.ended(outcomes[-1])
    view.close()
    chunks: dict[str, list[Chunk]] = {}
    for chunk in RrdReader(file).stream():
        chunks.setdefault(chunk.entity_path, []).append(chunk)
    return outcomes, chunks


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[EpisodeOutcome], dict[str, list[Chunk]]]:
    return recorded(tmp_path_factory.mktemp("rrd") / "deep" / "run.rrd")


def series(chunks: dict[str, list[Chunk]], path: str) -> tuple[np.ndarray, np.ndarray]:
    """Seconds and values of a plotted line, in order of time."""
    times, values = [], []
    for chunk in chunks[path]:
        if not chunk.is_static:
            batch = chunk.to_record_batch()
            times += [time.total_seconds() for time in batch.column("time").to_pylist()]
            values += [row[0] for row in batch.column("Scalars:scalars").to_pylist()]
    order = np.argsort(times, kind="stable")
    return np.asarray(times)[order], np.asarray(values, np.float64)[order]


def test_every_command_is_there_with_its_time(run):
    outcomes, chunks = run
    steps = [step for outcome in outcomes for step in outcome.trace.steps]
    for dim, name in enumerate(SPEC.action.names):
        times, values = series(chunks, f"/action/{name}/executed")
        np.testing.assert_allclose(values, [step.sent[dim] for step in steps])
        np.testing.assert_allclose(np.diff(times), np.diff([step.at for step in steps]), atol=1e-6)
    _, held = series(chunks, "/safety/held")
    np.testing.assert_array_equal(held, [step.command is None for step in steps])


def test_every_chunk_lies_where_its_actions_were_meant_to_be(run):
    outcomes, chunks = run
    first = outcomes[0].trace.steps[0].at
    start = series(chunks, "/action/a0/executed")[0][0]  # the same moment on the file's clock
    for turn in range(4):
        times, values = series(chunks, f"/action/a1/chunk_{turn}")
        expected = [
            (request.captured_at - first + start + index / 200, action)
            for outcome in outcomes
            for request in outcome.trace.requests
            if request.seq % 4 == turn and request.actions is not None
            for index, action in enumerate(request.actions[:, 1])
        ]
        shown = sorted(zip(times[np.isfinite(values)], values[np.isfinite(values)], strict=True))
        np.testing.assert_allclose(shown, sorted(expected), atol=1e-6)
        assert np.isnan(values).sum() == len(expected) // SPEC.horizon  # a gap behind each


def test_frames_latencies_and_lines_are_there(run):
    outcomes, chunks = run
    requests = sum(len(outcome.trace.requests) for outcome in outcomes)
    assert len(series(chunks, "/latency/round_trip_ms")[1]) == requests > 4
    for camera in ("left", "right"):
        data = chunks[f"/camera/{camera}"][0].to_record_batch().column("EncodedImage:blob").to_pylist()[0][0]
        assert bytes(data).startswith(b"\xff\xd8")
    lines = [
        row[0]
        for chunk in chunks["/log"]
        for row in chunk.to_record_batch().column("TextLog:text").to_pylist()
    ]
    assert "null, seed 0" in lines
    assert "null, seed 1: success" in lines
    assert {"/buffer/planned", "/safety/active", "/state/s0"} <= set(chunks)


def test_the_file_brings_its_own_layout(tmp_path):
    view = RerunView(SPEC, viewer=None, file=tmp_path / "run.rrd")
    view.close()
    assert len(RrdReader(tmp_path / "run.rrd").blueprints()) == 1


def test_without_rerun_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(UsageError, match=r"pip install .*\.\[viz\]"):
        RerunView(SPEC, viewer=None, file=Path("x.rrd"))


def test_a_file_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="--record-rrd"):
        RerunView(SPEC, viewer=None, file=tmp_path / "file" / "run.rrd")


@pytest.mark.parametrize(
    "address", ["localhost", "rerun+http://", "http://127.0.0.1:9876", "rerun+http://127.0.0.1:1/proxy"]
)
def test_a_viewer_that_is_not_there_is_told_before_anything_moves(address):
    with pytest.raises(UsageError, match="no viewer there"):
        check_viewer(address)


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Put a script in the viewer's place; `port` is what it was told."""
    script = tmp_path / "rerun"
    head = f"#!{sys.executable}\nimport os, socket, sys\nport = int(sys.argv[sys.argv.index('--port') + 1])\n"
    script.write_text(head + code)
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(rerun_viewer, "_executable", lambda: script)


def test_a_viewer_is_started_on_loopback_alone_and_waited_for(tmp_path, monkeypatch, port):
    pretend(
        tmp_path,
        monkeypatch,
        f"assert sys.argv[sys.argv.index('--bind') + 1] == '127.0.0.1'\n"
        f"listening = socket.create_server(('127.0.0.1', port))\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(f'{{os.getpid()}} {{os.environ[\"CI\"]}}')\n"
        "while True: listening.accept()[0].close()\n",
    )
    try:
        assert open_viewer(port) == f"rerun+http://127.0.0.1:{port}/proxy"
        assert open_viewer(port) == check_viewer(
            f"rerun+http://127.0.0.1:{port}/proxy"
        )  # found, not another one
    finally:
        pid, told = (tmp_path / "pid").read_text().split()
        os.kill(int(pid), signal.SIGKILL)
    assert told == "1"


def test_a_viewer_that_finds_no_screen_is_told_with_its_last_words(tmp_path, monkeypatch, port):
    pretend(
        tmp_path,
        monkeypatch,
        "socket.create_server(('127.0.0.1', port))\nsys.exit('no DISPLAY here')\n",
    )
    with pytest.raises(UsageError, match=r"no DISPLAY here.*--record-rrd"):
        open_viewer(port)
