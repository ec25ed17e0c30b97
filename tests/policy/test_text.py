"""Instruction text becomes token ids: bounded, blind to case and punctuation, robust to typing errors."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.text import BUCKETS, MAX_BYTES, MAX_TOKENS, from_bytes, to_bytes, tokenize


@given(st.text(max_size=400))
@settings(max_examples=200, deadline=None)
def test_any_text_gives_a_bounded_padded_vector(text):
    ids = tokenize(text)
    assert ids.shape == (MAX_TOKENS,)
    assert ids.dtype == np.int64
    assert ids.min() >= 0
    assert ids.max() < BUCKETS
    used = np.count_nonzero(ids)
    assert not ids[used:].any()  # zeros only at the end: no real trigram has the padding's id


def test_case_punctuation_and_spacing_do_not_matter():
    expected = tokenize("open the drawer")
    for text in ("Open the drawer.", "  OPEN,  the\tdrawer!! ", "open-the-drawer"):
        np.testing.assert_array_equal(tokenize(text), expected)


def test_different_tasks_have_different_tokens():
    from clients.robots.metaworld_tasks import TASKS, instruction

    texts = {instruction(task) for task in TASKS}
    assert len({tokenize(text).tobytes() for text in texts}) == len(texts)


def test_a_misspelt_instruction_keeps_most_of_its_trigrams():
    right, wrong = set(tokenize("open the drawer")), set(tokenize("open the drawr"))
    assert len(right & wrong) >= 0.7 * len(right)
    assert len(right & set(tokenize("press a button"))) <= 0.2 * len(right)


def test_a_text_without_words_is_all_padding():
    assert not tokenize("").any()
    assert not tokenize("?!  ...").any()


def test_a_long_text_is_cut_and_its_start_kept():
    long = tokenize("pick up the puck " * 50)
    assert np.count_nonzero(long) == MAX_TOKENS
    short = tokenize("pick up the puck")
    used = np.count_nonzero(short)
    np.testing.assert_array_equal(long[:used], short[:used])


def test_tokens_are_the_same_in_every_process():
    """Python salts `hash()` per process; a vocabulary built on it would not survive a restart."""
    code = "from policy.text import tokenize; print(tokenize('open the drawer')[:20].tolist())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str(tokenize("open the drawer")[:20].tolist())


@given(st.text(max_size=200))
def test_a_text_comes_back_from_its_bytes(text):
    ids = to_bytes(text)
    assert ids.shape == (MAX_BYTES,)
    found = from_bytes(ids)
    expected = text.replace("\0", "").encode(errors="ignore").decode()
    assert expected.startswith(found)
    if len(expected.encode()) <= MAX_BYTES:
        assert found == expected


def test_a_text_of_too_many_bytes_is_cut_between_characters():
    found = from_bytes(to_bytes("ä" * MAX_BYTES))
    assert found == "ä" * (MAX_BYTES // 2)
    assert from_bytes(to_bytes("a" + "ä" * MAX_BYTES)) == "a" + "ä" * (MAX_BYTES // 2 - 1)


def test_words_of_any_script_tell_tasks_apart():
    texts = ("打开抽屉", "关上门", "открой дверь", "öffne die Tür")
    tokens = [tokenize(text).tolist() for text in texts]
    assert all(any(one) for one in tokens)
    assert len({tuple(one) for one in tokens}) == len(texts)
