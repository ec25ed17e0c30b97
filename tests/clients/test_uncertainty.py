"""Uncertain chunks: what counts as one, and that slowing, holding and asking end when it does."""

from __future__ import annotations

import math

import numpy as np
import pytest

from clients.uncertainty import RESPONSE, UncertaintyGate, chunk_uncertainty

SPREAD = np.linspace(0, 1, 11, dtype=np.float32)


def test_only_what_will_be_executed_before_the_next_chunk_counts():
    assert chunk_uncertainty(SPREAD, 2, 3) == pytest.approx(0.3)
    assert chunk_uncertainty(SPREAD, 9, 30) == pytest.approx(0.95)
    assert chunk_uncertainty(SPREAD, 11, 3) is None
    assert chunk_uncertainty(None, 0, 3) is None


def test_samples_that_cannot_be_compared_agree_on_nothing():
    assert chunk_uncertainty(np.full(4, np.nan, np.float32), 0, 4) == math.inf


@pytest.mark.parametrize("on_uncertain", ["slow", "hold"])
def test_a_chunk_above_the_threshold_is_a_fault_and_one_below_is_none(on_uncertain):
    gate = UncertaintyGate(on_uncertain, 0.2)
    assert gate.look(None) is None
    assert gate.look(0.2) is None
    fault = gate.look(0.21)
    assert fault is not None
    assert fault.serious
    assert gate.question is None
    assert gate.look(0.1) is None


def test_measuring_alone_changes_nothing():
    assert UncertaintyGate(None, 0.0).look(5.0) is None


def test_asking_holds_until_the_operator_says_yes_and_asks_again_at_the_next_onset():
    assert RESPONSE["ask"] == "hold"
    gate = UncertaintyGate("ask", 0.2)
    assert gate.look(0.3) is not None
    assert gate.question is not None
    assert "0.3" in gate.question
    gate.answer(True)
    assert gate.look(0.4) is None
    assert gate.question is None
    assert gate.look(0.1) is None  # certain again
    assert gate.look(0.3) is not None
    assert gate.question is not None


def test_a_no_ends_the_episode():
    gate = UncertaintyGate("ask", 0.2)
    gate.look(0.3)
    gate.answer(False)
    assert gate.refused
    assert gate.look(0.3) is not None
    assert gate.question is None


def test_an_answer_to_a_question_that_has_gone_counts_for_nothing():
    gate = UncertaintyGate("ask", 0.2)
    gate.look(0.3)
    gate.look(0.1)
    gate.answer(False)
    assert not gate.refused
    gate.answer(True)
    assert gate.look(0.3) is not None
