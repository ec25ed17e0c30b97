"""What Prometheus is told: every figure that an operator asks for, of everything that has happened, counted once."""

from __future__ import annotations

import sys
import threading
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from policy.null import NullPolicy, null_spec
from service.device_memory import memory_probes
from service.metrics import _UNTOLD, Metrics
from service.policy_set import ServedPolicy
from service.running import RunningServer
from service.wire import msgpack_codec
from service.wire.messages import ActRequest, Timing


def samples(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """By name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_a_live_server_tells_requests_stages_batches_queue_and_memory(
    http: httpx.Client, server: RunningServer, request_: ActRequest
) -> None:
    headers = {"content-type": msgpack_codec.CONTENT_TYPE}
    http.post("/act", content=msgpack_codec.encode_request(request_), headers=headers)
    http.post("/act", content=b"\xc1", headers=headers)
    told = samples(http.get("/metrics").content)
    assert told["tinyvla_requests_total", (("code", "ok"), ("door", "http"))] >= 1
    assert told["tinyvla_requests_total", (("code", "malformed"), ("door", "http"))] >= 1
    for stage in ("decode", "queue", "encode", "sample", "total"):
        assert told["tinyvla_stage_seconds_count", (("stage", stage),)] >= 1
    assert told["tinyvla_batch_size_count", ()] >= 1
    for name in ("tinyvla_queue_depth", "tinyvla_superseded_total", "tinyvla_deadline_missed_total"):
        assert told[name, ()] >= 0
    assert told["process_resident_memory_bytes", ()] > 2**20
    used, total = (
        told["tinyvla_device_memory_bytes", (("device", "cpu"), ("kind", kind))] for kind in ("used", "total")
    )
    assert 2**20 < used < total


def test_timings_are_counted_once_whoever_asks_and_however_many_wait() -> None:
    metrics = Metrics()
    calls, threads = 3 * _UNTOLD + 7, 4
    asking = [threading.Thread(target=lambda: [metrics.text() for _ in range(20)]) for _ in range(threads)]
    for thread in asking:
        thread.start()
    for _ in range(calls):
        metrics.replied(Timing(1.0, 2.0, 3.0, 4.0, 10.0, 1))
    for thread in asking:
        thread.join()
    told = samples(metrics.text())
    assert told["tinyvla_stage_seconds_count", (("stage", "total"),)] == calls
    assert told["tinyvla_stage_seconds_sum", (("stage", "total"),)] == pytest.approx(calls * 0.01)


def test_unread_timings_do_not_pile_up() -> None:
    metrics = Metrics()
    for _ in range(10 * _UNTOLD):
        metrics.replied(Timing(0, 0, 0, 0, 0, 1))
    assert len(metrics._untold) < _UNTOLD


def test_what_alerts_wait_for_is_zero_before_it_happens() -> None:
    shown = generate_latest(Metrics().registry).decode()
    for door in ("http", "zmq", "openpi", "groot"):
        assert f'tinyvla_requests_total{{code="internal",door="{door}"}} 0.0' in shown
    assert 'tinyvla_policy_loads_total{outcome="refused"} 0.0' in shown
    assert Metrics().answers() == []


def test_the_last_minutes_hear_of_what_was_counted() -> None:
    metrics = Metrics()
    metrics.ran(3, 5)
    metrics.replied(Timing(0, 0, 0, 0, 10.0, 3))
    metrics.answered("zmq", "ok")
    metrics.answered("zmq", "overloaded")
    newest = metrics.summaries(metrics.started + 1e6)
    assert all(one.replies == 0 for one in newest)  # long ago by then
    interval = metrics.history._intervals[-1]
    assert (interval.replies, interval.requests_run, interval.queue) == (1, 3, 5)
    assert interval.errors == {"overloaded": 1}
    assert sorted(metrics.answers()) == [("zmq", "ok", 1), ("zmq", "overloaded", 1)]


class Nvml(SimpleNamespace):
    """NVIDIA's library as far as it is asked."""

    def __init__(self) -> None:
        super().__init__(asked=[])

    def nvmlInit(self) -> None:
        self.asked.append("init")

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return f"number {index}"

    def nvmlDeviceGetHandleByUUID(self, name: str) -> str:
        return name

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:
        self.asked.append(handle)
        return SimpleNamespace(used=3, total=7)


@pytest.mark.parametrize(
    ("visible", "device", "handle"),
    [
        ("", "cuda", "number 0"),
        ("", "cuda:2", "number 2"),
        ("5,6", "cuda:1", "number 6"),
        ("GPU-abc", "cuda", "GPU-abc"),
    ],
)
def test_of_a_gpu_the_driver_tells(
    monkeypatch: pytest.MonkeyPatch, visible: str, device: str, handle: str
) -> None:
    nvml = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)  # type: ignore[arg-type]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    metrics = Metrics()
    predictor = NullPolicy(null_spec(size=16))
    predictor.device = device
    policy = ServedPolicy.of(predictor)
    metrics.serving([policy], policy)
    told = samples(metrics.text())
    assert told["tinyvla_device_memory_bytes", (("device", device), ("kind", "used"))] == 3
    assert told["tinyvla_device_memory_bytes", (("device", device), ("kind", "total"))] == 7
    assert set(nvml.asked) == {"init", handle}


@pytest.mark.parametrize("device", ["cuda", "tpu"])
def test_where_nobody_can_tell_nothing_is_told(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # type: ignore[arg-type]
    assert memory_probes(device) == {}
