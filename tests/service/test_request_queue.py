"""The queue: bounded, fair, one place per session, batches of what fits together, expired work first out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from policy.errors import TinyVLAError
from policy.observation import Observation
from service.request_queue import Displaced, RequestQueue, Ticket
from service.wire.messages import ActRequest

NOBODY = Displaced()


def ticket(key: str = "a", *, at: float = 0.0, client: str | None = None, **fields: Any) -> Ticket:
    request = ActRequest(Observation({}, np.zeros(1, np.float32)), **fields)
    return Ticket(request, arrived=at, queued=at, decode_ms=0.0, key=key, client=client)


def filled(queue: RequestQueue, *tickets: Ticket) -> RequestQueue:
    for each in tickets:
        assert queue.put(each) == NOBODY
    return queue


def test_what_fits_together_shares_a_batch_in_order_of_arrival() -> None:
    queue = RequestQueue(capacity=8, max_batch=2)
    first, other, second, third = ticket(), ticket("b"), ticket(), ticket()
    for each in (first, other, second, third):
        assert queue.put(each) == NOBODY
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


def test_a_robot_that_starts_again_does_not_yield_to_the_request_it_left_behind() -> None:
    left, again = ticket(session="arm", seq=57), ticket(session="arm", seq=0, at=1)
    queue = filled(RequestQueue(capacity=2, max_batch=1), left)
    left.future.cancel()
    assert queue.put(again).superseded is left
    assert queue.take(1).batch == [again]


def test_a_newer_request_of_a_session_takes_the_older_ones_place_even_in_a_full_queue() -> None:
    queue = RequestQueue(capacity=2, max_batch=1)
    old, bystander, new = ticket(session="arm"), ticket(), ticket(session="arm", at=1)
    queue.put(old)
    queue.put(bystander)
    assert queue.put(new).superseded is old
    assert queue.take(1).batch == [new]
    assert queue.take(1).batch == [bystander]


def test_sessions_do_not_supersede_each_other_nor_those_without() -> None:
    queue = RequestQueue(capacity=8, max_batch=8)
    each = [ticket(session="a"), ticket(session="b"), ticket(), ticket()]
    assert [queue.put(one) for one in each] == [NOBODY] * 4
    assert queue.take(0).batch == each


@pytest.mark.parametrize(
    "marks", [({"seq": 8, "at": 5.0}, {"seq": 7, "at": 6.0}), ({"at": 6.0}, {"at": 5.0})]
)
def test_a_request_that_was_overtaken_while_decoding_is_itself_superseded(marks: tuple[dict, dict]) -> None:
    queue = RequestQueue(capacity=8, max_batch=8)
    newer, overtaken = (ticket(session="arm", **mark) for mark in marks)
    queue.put(newer)
    assert queue.put(overtaken).superseded is overtaken
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
    assert queue.drop_session("arm") == [mine]
    assert queue.drop_session("arm") == []
    assert len(queue) == 0


def test_clients_take_turns_however_much_one_of_them_has_waiting() -> None:
    fast = [ticket(client="fast") for _ in range(5)]
    slow, arm = ticket(client="slow"), ticket(session="arm")
    queue = filled(RequestQueue(capacity=8, max_batch=2), *fast, slow, arm)
    assert queue.take(0).batch == [fast[0], slow]
    assert queue.take(0).batch == [arm, fast[1]]
    assert queue.take(0).batch == [fast[2], fast[3]]


def test_a_client_that_was_just_served_goes_behind_those_who_wait() -> None:
    queue = filled(RequestQueue(8, 1), ticket(client="fast"), ticket(client="slow"))
    first = queue.take(0).batch[0]
    queue.put(ticket(client="fast"))
    assert [first.client, *(queue.take(0).batch[0].client for _ in range(2))] == ["fast", "slow", "fast"]


def test_whose_request_fits_no_batch_yet_keeps_its_turn() -> None:
    odd, more = ticket("odd", client="a"), ticket(client="a")
    others = [ticket(client="b"), ticket(client="b")]
    queue = filled(RequestQueue(8, 8), others[0], odd, more)
    assert queue.take(0).batch == [others[0], more]
    queue.put(others[1])
    assert queue.take(0).batch == [odd]


def test_a_full_queue_makes_room_for_who_has_less_waiting() -> None:
    fast = [ticket(client="fast") for _ in range(3)]
    queue = filled(RequestQueue(capacity=3, max_batch=8), *fast)
    slow = ticket(client="slow")
    assert queue.put(slow) == Displaced(evicted=fast[2])
    with pytest.raises(TinyVLAError, match="try again"):
        queue.put(ticket(client="fast"))
    assert queue.put(ticket(session="arm")) == Displaced(evicted=fast[1])
    assert len(queue) == 3


def test_a_cancelled_request_gives_its_place_away_and_runs_no_more() -> None:
    cancelled, kept = ticket(client="a"), ticket(client="a")
    queue = filled(RequestQueue(capacity=2, max_batch=8), cancelled, kept)
    cancelled.future.cancel()
    late = ticket(client="a")
    assert queue.put(late) == NOBODY
    late.future.cancel()
    assert queue.take(0).batch == [kept]


def test_a_batch_waits_for_company_as_long_as_it_may() -> None:
    queue = RequestQueue(capacity=8, max_batch=2)
    assert queue.wait_s(0.0, 0.5) == 0.0  # nothing to wait with
    queue.put(ticket(at=1.0))
    assert queue.wait_s(1.1, 0.5) == pytest.approx(0.4)
    assert queue.wait_s(1.6, 0.5) <= 0
    assert queue.wait_s(1.1, 0.0) <= 0  # the default
    queue.put(ticket("other", at=1.0, client="b"))
    assert queue.wait_s(1.1, 0.5) == pytest.approx(0.4)  # that one is no company
    queue.put(ticket(at=1.05))
    assert queue.wait_s(1.1, 0.5) == 0.0  # full


def test_who_was_just_answered_is_given_the_time_to_ask_again() -> None:
    """Four robots at a slow policy: without this, two groups take turns and each robot waits for two runs."""
    queue = filled(RequestQueue(8, 8), ticket(at=1.0))
    assert queue.wait_s(9.0, 0.5, free_at=9.0) == pytest.approx(0.5)
    assert queue.wait_s(9.6, 0.5, free_at=9.0) <= 0
    assert queue.wait_s(1.1, 0.5, free_at=0.0) == pytest.approx(0.4)


def test_waiting_for_company_never_costs_a_deadline() -> None:
    queue = filled(RequestQueue(8, 8), ticket(at=1.0), ticket(at=1.0, deadline_ms=600))
    assert queue.wait_s(1.0, 0.5) == pytest.approx(0.1)  # run by 1.1, the deadline being at 1.6
    hurried = filled(RequestQueue(8, 8), ticket(at=1.0, deadline_ms=400))
    assert hurried.wait_s(1.0, 0.5) <= 0
