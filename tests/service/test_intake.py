"""Before the engine: decoding in bounded room that no client fills alone, and nothing decoded for who has left."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from policy.errors import TinyVLAError
from service.engine import Engine
from service.intake import FairRoom, Intake
from service.wire.messages import ActReply, ActRequest

PATIENCE_S = 20.0


@pytest.fixture
def intake() -> Iterator[Intake]:
    """Two decoding threads, in front of an engine without a policy."""
    made = Intake(Engine(), threads=2, capacity=8)
    yield made
    made.close()


class Gate:
    """Decoding that waits until it is let through, and counts."""

    def __init__(self, request: ActRequest) -> None:
        self.request, self.open, self.begun = request, threading.Event(), threading.Semaphore(0)
        self.decoded = 0

    def __call__(self) -> ActRequest:
        self.begun.release()
        assert self.open.wait(PATIENCE_S)
        self.decoded += 1
        return self.request


def code(future: Future[ActReply]) -> str:
    error = future.exception(PATIENCE_S)
    assert isinstance(error, TinyVLAError)
    return error.code


def test_one_client_may_hold_as_much_room_as_is_free() -> None:
    room = FairRoom(8)
    for _ in range(4):
        room.enter("fast")
    with pytest.raises(TinyVLAError, match="4 of them from this client"):
        room.enter("fast")
    for _ in range(2):
        room.enter("slow")
    with pytest.raises(TinyVLAError, match="try again"):
        room.enter("slow")
    room.enter("third")
    room.leave("fast")
    room.leave("fast")
    room.enter("slow")  # four are free again, and it holds two


def test_a_room_is_never_more_than_full() -> None:
    room = FairRoom(3)
    for number in range(3):
        room.enter(number)
    with pytest.raises(TinyVLAError, match="from others") as refusal:
        room.enter("one more")
    assert refusal.value.code == "overloaded"


def test_a_flood_of_one_client_is_refused_at_once_and_others_come_in(
    intake: Intake, request_: ActRequest
) -> None:
    gate = Gate(request_)
    flood = [intake.accept(gate, 0.0, client="fast") for _ in range(20)]
    refused = [future for future in flood if future.done()]
    assert len(refused) == 16
    assert {code(future) for future in refused} == {"overloaded"}
    assert not intake.accept(gate, 0.0, client="slow").done()
    gate.open.set()


def test_a_request_cancelled_before_its_turn_is_not_even_decoded(
    intake: Intake, request_: ActRequest
) -> None:
    busy, wanted = Gate(request_), Gate(request_)
    for client in ("a", "b"):
        intake.accept(busy, 0.0, client=client)
    for _ in range(2):
        assert busy.begun.acquire(timeout=PATIENCE_S)
    waiting = intake.accept(wanted, 0.0, client="c")
    assert waiting.cancel()
    busy.open.set()
    wanted.open.set()
    intake.close()  # waits for the decoding threads
    assert (busy.decoded, wanted.decoded) == (2, 0)


def test_after_closing_requests_are_not_ready_on_both_ways_in(intake: Intake, request_: ActRequest) -> None:
    intake.close()
    assert code(intake.accept(lambda: request_, 0.0)) == "not_ready"
    assert code(intake.accept_here(lambda: request_, 0.0)) == "not_ready"
