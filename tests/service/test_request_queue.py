"""The queue: bounded, one place per session, batches of what fits together, expired work first out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from policy.errors import TinyVLAError
from policy.observation import Observation
from service.request_queue import RequestQueue, Ticket
from service.wire.messages import ActRequest


def ticket(key: str = "a", *, at: float = 0.0, **fields: Any) -> Ticket:
    request = ActRequest(Observation({}, np.zeros(1, np.float32)), **fields)
    return Ticket(request, arrived=at, queued=at, decode_ms=0.0, key=key)


def test_what_fits_together_shares_a_batch_in_order_of_arrival() -> None:
    queue = RequestQueue(capacity=8, max_batch=2)
    first, other, second, third = ticket(), ticket("b"), ticket(), ticket()
    for each in (first, other, second, third):
        assert queue.put(each) is None
    assert queue.take(0).batch == [first, second]
    assert queue.take(0).batch == [other]
    assert queue.take(0).batch == [third]
    assert queue.take(0).batch == []


def test_a_full_queue_refuses_at_once_and_keeps_what_it_has() -> None:
    queue = RequestQueue(capacity=2, max_batch=8)
    waiting = [ticket(), ticket()]
    for each in waiting:
        queue.put(each)
    with pytest.raises(TinyVLAError) as refusal:
        queue.put(ticket())
    assert refusal.value.code == "overloaded"
    assert queue.take(0).batch == waiting


def test_a_newer_request_of_a_session_takes_the_older_ones_place_even_in_a_full_queue() -> None:
    queue = RequestQueue(capacity=2, max_batch=1)
    old, bystander, new = ticket(session="arm"), ticket(), ticket(session="arm", at=1)
    queue.put(old)
    queue.put(bystander)
    assert queue.put(new) is old
    assert queue.take(1).batch == [new]
    assert queue.take(1).batch == [bystander]


def test_sessions_do_not_supersede_each_other_nor_those_without() -> None:
    queue = RequestQueue(capacity=8, max_batch=8)
    each = [ticket(session="a"), ticket(session="b"), ticket(), ticket()]
    assert [queue.put(one) for one in each] == [None] * 4
    assert queue.take(0).batch == each


@pytest.mark.parametrize(
    "marks", [({"seq": 8, "at": 5.0}, {"seq": 7, "at": 6.0}), ({"at": 6.0}, {"at": 5.0})]
)
def test_a_request_that_was_overtaken_while_decoding_is_itself_superseded(marks: tuple[dict, dict]) -> None:
    queue = RequestQueue(capacity=8, max_batch=8)
    newer, overtaken = (ticket(session="arm", **mark) for mark in marks)
    queue.put(newer)
    assert queue.put(overtaken) is overtaken
    assert queue.take(0).batch == [newer]


def test_expired_requests_leave_without_a_place_in_a_batch() -> None:
    queue = RequestQueue(capacity=8, max_batch=1)
    late, fine, endless = ticket(deadline_ms=100), ticket(deadline_ms=5000), ticket()
    for each in (late, fine, endless):
        queue.put(each)
    taken = queue.take(0.2)
    assert (taken.batch, taken.expired) == ([fine], [late])
    assert queue.take(99).batch == [endless]


def test_dropping_a_session_takes_its_request_out() -> None:
    queue = RequestQueue(capacity=8, max_batch=8)
    mine = ticket(session="arm")
    queue.put(mine)
    assert queue.drop_session("arm") is mine
    assert queue.drop_session("arm") is None
    assert len(queue) == 0
