"""Predicted memory is that which is then measured, and the batch that is named fits the card."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tinyvla
from policy.networks.network import PolicyNetwork
from tests.trainer.diagnosis.told import diagnosed
from trainer.diagnosis.memory import card_megabytes
from trainer.diagnosis.memory_model import largest_batch, predict
from trainer.diagnosis.subject import SubjectArgs, open_subject

_RESIDENT = Path(__file__).with_name("resident_memory.py")


def rows_of(text: str, title: str) -> list[list[str]]:
    """Cells of the printed table with this title."""
    lines = text[text.index(title) :].splitlines()[1:]
    table = lines[: next((i for i, line in enumerate(lines) if line.startswith("└")), len(lines))]
    return [re.split(r"\s*│\s*", line.strip("│ ")) for line in table if line.startswith("│")]


@pytest.mark.slow
def test_predicted_memory_is_within_a_tenth_of_what_a_process_of_its_own_takes(dots):
    """The network of the default settings; freed memory goes back to the system at once, so that its peak counts."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    call = [sys.executable, str(_RESIDENT), str(dots), "48", "96"]
    printed = subprocess.run(call, env=environment, capture_output=True, text=True, check=True).stdout
    told = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert [one["batch"] for one in told] == [48, 96]
    for one in told:
        assert one["predicted"] == pytest.approx(one["resident"], rel=0.1)
    assert told[1]["resident"] > 1.5 * told[0]["resident"]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_command_measures_too(dots, settings_of_a_dataset, precision):
    settings_of_a_dataset(precision=precision, hidden_dim=96, layers=2)
    told = diagnosed("memory", dots, "--measure", "--batch-sizes", "32", "--card", "24")
    assert told.codes == ()
    measured = rows_of(told.text, "measured by torch's allocator")
    assert [row[0] for row in measured] == ["16", "32"]
    assert all(abs(float(row[3].split()[0])) <= 10 for row in measured)


def test_a_prediction_that_is_off_is_a_fault(dots, monkeypatch):
    monkeypatch.setattr("trainer.diagnosis.memory.measure", lambda subject, size, bf16, from_cache: 1000.0)
    assert diagnosed("memory", dots, "--measure").codes == ("prediction-off",)


def test_memory_counts_weights_their_average_gradients_and_two_moments(dots):
    told = diagnosed("memory", dots, "--card", "24")
    subject = open_subject(SubjectArgs(dots, device="cpu"))
    weights = sum(p.numel() for p in PolicyNetwork(subject.spec, subject.config).parameters()) * 4 / 1e6
    for row in rows_of(told.text, "predicted, MB"):
        assert [float(cell) for cell in row[1:5]] == pytest.approx(
            [weights, weights, weights, 2 * weights], abs=0.06
        )


def test_a_quoted_budget_is_put_right(dots):
    """583 + 583 + 1,166 MB for 73 M parameters are 64-bit numbers, or twice the parameters."""
    told = diagnosed("memory", dots, "--card", "24").text
    for words in (
        "583 (weights) + 583 (gradients) + 1,166 MB (Adam) for 73 M parameters cannot be fp32",
        "8 bytes a number",
        "292 + 292 + 584 MB = 1,168 MB",
        "583 MB of fp32 weights are 146 M parameters",
    ):
        assert words in told


def test_a_batch_that_does_not_fit_the_card_is_a_fault(dots):
    told = diagnosed("memory", dots, "--batch-size", "4096", "--card", "0.7")
    assert told.codes == ("does-not-fit",)
    (card,) = rows_of(told.text, "largest batch by card")
    assert 0 < int(card[2].replace(",", "")) < 4096
    assert diagnosed("memory", dots, "--card", "0.7").codes == ()


def test_the_largest_batch_fits_and_a_twentieth_more_does_not(dots):
    subject = open_subject(SubjectArgs(dots, device="cpu"))
    known = [predict(subject, batch, bf16=False) for batch in (32, 64)]
    found = largest_batch(known, 100.0)
    assert found is not None
    batch, peak = found
    assert peak <= 100.0 < predict(subject, round(1.05 * batch) + 1, bf16=False).peak
    assert predict(subject, batch, bf16=False).peak == pytest.approx(peak, rel=0.02)
    assert largest_batch(known, 0.1) is None


def test_cards_go_by_name_or_gigabytes(dots, capsys):
    assert card_megabytes("rtx4090") == card_megabytes("24 GB") == card_megabytes("RTX 4090")
    for wrong in ("RTX 9999", "0", "nan"):
        assert tinyvla.main(["diagnose", "memory", str(dots), "--card", wrong]) == 2
        assert f"--card {wrong}" in capsys.readouterr().err
