"""The splice: whatever the order and delay of replies, every control step runs exactly its own action."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.chunk_buffer import CHUNK_POLICIES, Chunk, ChunkBuffer

HORIZON = 12


def labelled(seq: int, obs_step: int, horizon: int = HORIZON) -> Chunk:
    """A chunk whose actions say which chunk they belong to and where they lie in it."""
    index = np.arange(horizon, dtype=np.float32)
    return Chunk(np.stack([np.full(horizon, seq, np.float32), index], axis=1), obs_step, seq)


def execute(buffer: ChunkBuffer) -> np.ndarray | None:
    planned = buffer.next_action()
    if planned is None:
        return None
    buffer.executed(planned, planned.action)
    return planned.action


# What happens from one moment to the next: control periods, observations, replies in any order, duplicates.
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("tick"), st.integers(1, 15)),
        st.tuples(st.just("observe"), st.just(0)),
        st.tuples(st.just("reply"), st.integers(0, 7)),
        st.tuples(st.just("duplicate"), st.integers(0, 7)),
    ),
    max_size=80,
)


@given(events=EVENTS, policy=st.sampled_from(["sync", "receding", "rtc"]))
def test_every_step_runs_its_own_action_once_and_observations_never_go_back(events, policy):
    buffer = ChunkBuffer(policy, execute=5)
    under_way: list[Chunk] = []
    answered: list[Chunk] = []
    sent = 0
    ran: list[tuple[int, int, int]] = []  # (control step, chunk, index)
    for kind, number in events:
        if kind == "tick":
            for _ in range(number):
                step = buffer.step
                if (action := execute(buffer)) is not None:
                    ran.append((step, int(action[0]), int(action[1])))
        elif kind == "observe":
            under_way.append(labelled(sent, buffer.step))
            sent += 1
        elif kind == "reply" and under_way:
            answered.append(under_way.pop(number % len(under_way)))
            buffer.offer(answered[-1])
        elif kind == "duplicate" and answered:
            before = buffer.next_action()
            assert buffer.offer(answered[number % len(answered)]) in ("late", "spent")
            after = buffer.next_action()
            assert (before is None) == (after is None)
            assert before is None or after is None or np.array_equal(before.action, after.action)

    observed_at = {chunk.seq: chunk.obs_step for chunk in [*under_way, *answered]}
    assert [step for step, _, _ in ran] == list(range(len(ran)))  # none skipped, none twice
    for step, seq, index in ran:
        assert index == step - observed_at[seq]  # the splice counts consumed steps, nothing else
    seqs = [seq for _, seq, _ in ran]
    assert seqs == sorted(seqs)  # never back to an older observation


@given(events=EVENTS)
def test_ensemble_averages_exactly_the_chunks_that_cover_the_step(events):
    buffer = ChunkBuffer("ensemble", decay=0.3)
    under_way: list[Chunk] = []
    taken: list[Chunk] = []
    sent = 0
    newest = -1
    for kind, number in events:
        if kind == "tick":
            for _ in range(number):
                step = buffer.step
                planned = buffer.next_action()
                covering = [c for c in taken if c.obs_step <= step < c.obs_step + HORIZON]
                assert (planned is None) == (not covering)
                if planned is None:
                    break
                rows = np.stack([c.actions[step - c.obs_step] for c in covering])
                weights = np.exp(-0.3 * np.arange(len(rows)))
                np.testing.assert_allclose(planned.action, weights @ rows / weights.sum(), rtol=1e-5)
                assert planned.chunk.seq >= newest
                newest = planned.chunk.seq
                buffer.executed(planned, planned.action)
                assert buffer.step == step + 1
        elif kind == "observe":
            under_way.append(labelled(sent, buffer.step))
            sent += 1
        elif kind == "reply" and under_way:
            chunk = under_way.pop(number % len(under_way))
            if buffer.offer(chunk) == "accepted":
                taken.append(chunk)


def test_ensemble_gives_the_oldest_prediction_the_most_weight():
    buffer = ChunkBuffer("ensemble", decay=1.0)
    buffer.offer(Chunk(np.zeros((4, 1), np.float32), 0, 0))
    buffer.offer(Chunk(np.ones((4, 1), np.float32), 0, 1))
    planned = buffer.next_action()
    assert planned is not None
    assert planned.action[0] == pytest.approx(np.exp(-1) / (1 + np.exp(-1)))


@given(taken=st.integers(0, HORIZON + 3), held=st.integers(0, 30))
def test_held_periods_consume_nothing(taken, held):
    buffer = ChunkBuffer("receding")
    for _ in range(held):
        assert buffer.next_action() is None
    buffer.offer(labelled(0, 0))
    for _ in range(taken):
        execute(buffer)
    assert buffer.step == min(taken, HORIZON)


def test_a_starved_buffer_never_extrapolates():
    buffer = ChunkBuffer("receding")
    buffer.offer(labelled(0, 0, horizon=2))
    assert execute(buffer) is not None
    assert execute(buffer) is not None
    assert buffer.next_action() is None
    assert buffer.remaining == 0


def test_a_chunk_whose_steps_have_all_passed_is_dropped():
    buffer = ChunkBuffer("receding")
    buffer.offer(labelled(0, 0))
    for _ in range(4):
        execute(buffer)
    assert buffer.offer(labelled(1, 0, horizon=4)) == "spent"
    planned = buffer.next_action()
    assert planned is not None
    assert planned.chunk.seq == 0


def test_a_chunk_of_another_episode_is_dropped():
    buffer = ChunkBuffer("receding")
    assert buffer.offer(labelled(9, 140)) == "ahead"
    assert buffer.next_action() is None
    assert buffer.offer(labelled(10, 0)) == "accepted"


def test_sync_asks_only_when_it_has_run_out():
    buffer = ChunkBuffer("sync", execute=3)
    assert buffer.wants_observation
    buffer.offer(labelled(0, 0))
    for _ in range(3):
        assert not buffer.wants_observation
        assert execute(buffer) is not None
    assert buffer.wants_observation
    assert buffer.next_action() is None


@given(
    splice=st.integers(0, HORIZON - 1),
    executed=st.integers(0, HORIZON - 1),
    back=st.integers(0, 8),
    count=st.integers(1, 40),
)
def test_the_prefix_is_what_was_executed_since_the_observation_and_then_what_will_be(
    splice, executed, back, count
):
    buffer = ChunkBuffer("rtc")
    buffer.offer(labelled(0, 0))
    for _ in range(splice):
        execute(buffer)
    buffer.offer(labelled(1, splice))
    for _ in range(executed):
        execute(buffer)
    from_step = max(0, buffer.step - back)
    prefix = buffer.committed(from_step, count)

    ran = {step: (0, step) for step in range(splice)} | {splice + i: (1, i) for i in range(HORIZON)}
    expected = [ran[step] for step in range(from_step, splice + HORIZON)][:count]
    np.testing.assert_array_equal(prefix.reshape(-1, 2), np.asarray(expected, np.float32).reshape(-1, 2))


def test_the_prefix_holds_the_command_that_was_sent_after_clamping():
    buffer = ChunkBuffer("rtc")
    buffer.offer(Chunk(np.full((4, 1), 3.0, np.float32), 0, 0))
    planned = buffer.next_action()
    assert planned is not None
    buffer.executed(planned, np.ones(1, np.float32))
    np.testing.assert_array_equal(buffer.committed(0, 2), [[1.0], [3.0]])


@pytest.mark.parametrize("policy", CHUNK_POLICIES)
def test_a_border_between_chunks_is_marked_on_its_first_step_only(policy):
    buffer = ChunkBuffer(policy, execute=2)
    buffer.offer(labelled(0, 0))
    seams = []
    for step in range(4):
        if step == 2:
            buffer.offer(labelled(1, 2))
        planned = buffer.next_action()
        assert planned is not None
        seams.append(planned.seam)
        buffer.executed(planned, planned.action)
    assert seams == [False, False, True, False]


def test_the_border_of_a_chunk_lies_where_its_own_actions_begin():
    """Not where it is spliced in: until its prefix ends it repeats what the chunk before would have done."""
    buffer = ChunkBuffer("rtc")
    buffer.offer(labelled(0, 0))
    seams = []
    for step in range(8):
        if step == 2:
            buffer.offer(replace(labelled(1, 1), prefix=4))
        planned = buffer.next_action()
        assert planned is not None
        seams.append(planned.seam)
        buffer.executed(planned, planned.action)
    assert seams == [step == 5 for step in range(8)]


def test_a_chunk_replaced_before_its_own_actions_began_has_no_border():
    buffer = ChunkBuffer("rtc")
    buffer.offer(labelled(0, 0))
    seams = []
    for step in range(6):
        if step in (1, 2):
            buffer.offer(replace(labelled(step, step), prefix=2))
        planned = buffer.next_action()
        assert planned is not None
        seams.append((planned.seam, planned.chunk.seq))
        buffer.executed(planned, planned.action)
    assert [seq for seam, seq in seams if seam] == [2]


def test_an_unknown_chunk_policy_is_refused_by_name():
    with pytest.raises(ValueError, match="there are: sync, receding, ensemble, rtc"):
        ChunkBuffer("greedy")  # type: ignore[arg-type]
