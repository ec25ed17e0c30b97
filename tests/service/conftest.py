"""Servers on free ports, and a policy whose runs a test can hold back."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import httpx
import numpy as np
import pytest
import zmq

from clients.client import PolicyClient
from clients.connect import connect as connect_client
from policy.null import NullPolicy, null_spec
from policy.observation import Observation, Prediction, SampleOptions
from policy.spec import PolicySpec, SensorSpec
from service.running import RunningServer
from service.wire import zmq_frames
from service.wire.messages import ActRequest

PATIENCE_S = 20.0  # for what must happen soon, on a machine that is busy with other things


class HeldPolicy(NullPolicy):
    """Waits for `go` within each run after warm-up; tells through `entered` that a run has begun."""

    def __init__(self, spec: PolicySpec | None = None) -> None:
        super().__init__(spec)
        self.go, self.entered = threading.Event(), threading.Semaphore(0)
        self.batches: list[int] = []
        self._warm = False

    def predict(
        self, observations: Sequence[Observation], options: Sequence[SampleOptions]
    ) -> list[Prediction]:
        if self._warm:
            self.batches.append(len(observations))
            self.entered.release()
            assert self.go.wait(PATIENCE_S)
        self._warm = True
        return super().predict(observations, options)

    def await_run(self) -> None:
        """Return once a run has begun."""
        assert self.entered.acquire(timeout=PATIENCE_S)


class Dealer:
    """A DEALER client, as bare as can be."""

    def __init__(self, url: str, kind: int = zmq.DEALER) -> None:
        self._context = zmq.Context()
        self.socket: zmq.Socket = self._context.socket(kind)
        self.socket.setsockopt(zmq.RCVTIMEO, int(PATIENCE_S * 1e3))
        self.socket.connect(url)

    def send(self, frames: zmq_frames.Frames) -> None:
        self.socket.send_multipart(frames)

    def receive(self) -> zmq_frames.Answer:
        return zmq_frames.decode_answer(self.socket.recv_multipart())

    def ask(self, frames: zmq_frames.Frames) -> zmq_frames.Answer:
        self.send(frames)
        return self.receive()

    def close(self) -> None:
        self._context.destroy(linger=0)


def spec_with_everything() -> PolicySpec:
    """Two cameras, a sensor, and a state: every field of a request has its place."""
    sensor = SensorSpec(name="force", channels=2, window=5, rate_hz=100.0, units="N")
    return null_spec(cameras=("corner4", "topview"), size=16, sensors=[sensor])


@pytest.fixture(scope="session")
def everything() -> PolicySpec:
    return spec_with_everything()


@pytest.fixture(scope="session")
def request_(everything: PolicySpec) -> ActRequest:
    """A whole request that fits `everything`, with every field given."""
    random = np.random.default_rng(0)
    return ActRequest(
        observation=Observation(
            images={c.name: random.integers(0, 256, (20, 24, 3), np.uint8) for c in everything.cameras},
            state=random.uniform(-1, 1, 4).astype(np.float32),
            instruction="pick the puck up",
            sensors={"force": random.uniform(-1, 1, (3, 2)).astype(np.float32)},
        ),
        options=SampleOptions(ddim_steps=7, seed=11, prefix=np.full((2, 4), 0.25, np.float32), samples=3),
        policy="null",
        session="arm-1",
        seq=5,
        timestamp_ns=1_700_000_000_000_000_001,
        deadline_ms=60_000.0,
        expects=everything.hash,
        vl_max_age_ms=200.0,
    )


@pytest.fixture(scope="session")
def server(everything: PolicySpec) -> Iterator[RunningServer]:
    """A server shared by the tests that leave no trace in it."""
    with RunningServer(lambda: NullPolicy(everything)) as running:
        yield running


@pytest.fixture(params=["http", "zmq"])
def client(server: RunningServer, request: pytest.FixtureRequest) -> Iterator[PolicyClient]:
    """Our own client of either door."""
    made = connect_client(server.http_url if request.param == "http" else server.zmq_url)
    yield made
    made.close()


@pytest.fixture
def http(server: RunningServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.http_url, timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture
def dealer(server: RunningServer) -> Iterator[Dealer]:
    client = Dealer(server.zmq_url)
    yield client
    client.close()


@pytest.fixture
def held() -> HeldPolicy:
    return HeldPolicy(spec_with_everything())


@pytest.fixture
def held_server(held: HeldPolicy) -> Iterator[RunningServer]:
    """A server with room for three waiting requests, whose runs the test holds back."""
    with RunningServer(lambda: held, queue_size=3, max_batch=2) as running:
        yield running
        held.go.set()


@pytest.fixture
def connect() -> Iterator[type[Dealer]]:
    """Makes ZeroMQ clients of other kinds or to other servers; closes them."""
    made: list[Dealer] = []

    class Tracked(Dealer):
        def __init__(self, url: str, kind: int = zmq.DEALER) -> None:
            super().__init__(url, kind)
            made.append(self)

    yield Tracked
    for client in made:
        client.close()
