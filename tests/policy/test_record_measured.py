"""What was measured of a bundle goes into its contract and model card, and nothing else changes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from policy.bundle import load_bundle, read_spec
from policy.errors import UsageError
from policy.export.record_measured import record_measured

ROWS = [{"task": "reach", "episodes": 50, "successes": 49}, {"task": "push", "episodes": 50, "successes": 7}]


@pytest.fixture
def bundle(bundles, tmp_path):
    return shutil.copytree(bundles("diffusion"), tmp_path / "bundle")


def test_results_are_in_the_contract_and_on_the_model_card(bundle):
    label = read_spec(bundle).label
    record_measured(bundle, "in the simulator", ROWS)
    spec = read_spec(bundle)
    assert spec.measured == tuple({**row, "protocol": "in the simulator"} for row in ROWS)
    assert spec.label == label
    assert "| push | 50 | 7 | in the simulator |" in (bundle / "README.md").read_text()
    load_bundle(bundle)  # its hashes and golden pair still hold
    assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]


def test_a_task_measured_again_replaces_its_own_row_of_that_protocol_alone(bundle):
    record_measured(bundle, "in the simulator", ROWS)
    record_measured(bundle, "on the robot", ROWS[:1])
    record_measured(bundle, "in the simulator", ROWS[1:])
    kept = [(row["task"], row["protocol"]) for row in read_spec(bundle).measured]
    assert kept == [("reach", "in the simulator"), ("reach", "on the robot"), ("push", "in the simulator")]


def test_a_link_to_a_bundle_stays_one(bundle, monkeypatch):
    link = bundle.parent / "current"
    link.symlink_to(bundle.name)
    record_measured(link, "in the simulator", ROWS[:1])
    assert link.is_symlink()
    monkeypatch.chdir(bundle)
    record_measured(Path(), "in the simulator", ROWS[1:])
    assert len(read_spec(bundle).measured) == len(read_spec(link).measured) == 2
    assert sorted(path.name for path in bundle.parent.iterdir()) == [bundle.name, "current"]


def test_a_damaged_bundle_is_left_alone(bundle):
    (bundle / "golden.npz").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"golden\.npz"):
        record_measured(bundle, "in the simulator", ROWS)
    assert (bundle / "golden.npz").read_bytes() == b"x"
