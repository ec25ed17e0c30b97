"""Memory of training through a vision-language backbone: predicted is what is then measured, and what the run does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from policy.networks.backbone.model import open_backbone
from policy.networks.network import PolicyNetwork
from policy.text import from_bytes
from tests.tiny_backbones import write_backbone
from trainer.backbone_choice import choose_backbone
from trainer.diagnosis import memory
from trainer.diagnosis.memory import MemoryArgs
from trainer.diagnosis.memory_measured import measure
from trainer.diagnosis.memory_model import largest_batch, predict
from trainer.diagnosis.subject import Subject, open_subject
from trainer.feature_store import DiskFeatures
from trainer.loader import Samples


@pytest.fixture(scope="session")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Architecture -> a checkpoint with one layer of text."""
    made: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in made:
            made[kind] = write_backbone(tmp_path_factory.mktemp("memory") / kind, kind, layers=1)
        return made[kind]

    return get


@pytest.fixture
def seen_through(dots, backbones, settings_of_a_dataset) -> Callable[..., Subject]:
    """What a run on the dots through a tiny backbone is to `diagnose memory`."""

    def make(kind: str = "qwen2_5_vl", **changes: Any) -> Subject:
        settings_of_a_dataset(backbone=str(backbones(kind)), **changes)
        subject = open_subject(MemoryArgs(dots, device="cpu", batch_sizes=(), card=()))
        backbone = choose_backbone(subject.args, subject.spec, subject.device)
        return dataclasses.replace(subject, spec=subject.spec.model_copy(update={"backbone": backbone}))

    return make


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("qwen2_5_vl", {}),
        ("qwen2_5_vl", {"precision": "bf16"}),
        ("qwen2_5_vl", {"lora_rank": 4}),
        ("qwen2_5_vl", {"lora_rank": 4, "precision": "bf16"}),
        ("qwen2_5_vl", {"lora_rank": 4, "gradient_checkpointing": True}),
        pytest.param("smolvlm", {}, marks=pytest.mark.slow),
        pytest.param("smolvlm", {"lora_rank": 4}, marks=pytest.mark.slow),
        pytest.param("llava", {}, marks=pytest.mark.slow),
        pytest.param("llava", {"lora_rank": 4, "precision": "bf16"}, marks=pytest.mark.slow),
    ],
)
def test_predicted_memory_is_within_a_tenth_of_what_is_measured(seen_through, kind, changes):
    subject = seen_through(kind, **changes)
    bf16 = subject.args.precision == "bf16"
    held = open_backbone(subject.spec)
    budget = predict(subject, 48, bf16)
    assert budget.peak == pytest.approx(measure(subject, 48, bf16), rel=0.1)
    assert budget.frozen == pytest.approx(held.parameters * (2 if bf16 else 4) / 1e6, rel=0.01)
    assert budget.peak > 5 * budget.frozen  # so that the frozen weights hide no error


def test_only_what_is_trained_has_gradients_moments_and_an_average(seen_through):
    subject = seen_through(lora_rank=4)
    budget = predict(subject, 1, bf16=False)
    trained = sum(p.numel() for p in PolicyNetwork(subject.spec, subject.config).parameters()) * 4 / 1e6
    parts = (budget.weights, budget.average, budget.gradients, budget.adam)
    assert parts == pytest.approx((trained, trained, trained, 2 * trained))


def fill(subject: Subject, *parts: Samples) -> None:
    """Let the run's feature cache know these samples."""
    spec = subject.spec.backbone
    store = DiskFeatures(subject.args.feature_cache, spec, 10**9)
    for samples in parts:
        batch = samples.batch(np.arange(len(samples)))
        for images, tokens in zip(batch.images, batch.tokens, strict=True):
            store.put(images, from_bytes(tokens), np.ones((spec.tokens, spec.width), np.float32))
    store.flush()


def test_from_a_feature_cache_that_knows_all_samples_the_backbone_is_not_asked(seen_through, tmp_path):
    subject = seen_through(feature_cache=tmp_path)
    fill(subject, subject.data.train, subject.data.held_out)
    found = memory.diagnose(subject)
    assert any("reads features and does not ask the backbone" in note for note in found.notes)
    (table,) = found.measured
    frozen, peak = (table.rows[0][table.columns.index(name)] for name in ("frozen", "peak"))
    assert float(frozen) == 0.0
    budget = predict(subject, 48, bf16=False, from_cache=True)
    assert budget.peak == pytest.approx(measure(subject, 48, bf16=False, from_cache=True), rel=0.1)
    assert float(peak) < budget.peak


def test_a_feature_cache_that_lacks_samples_is_predicted_as_it_is_filled(seen_through, tmp_path):
    subject = seen_through(feature_cache=tmp_path)
    fill(subject, subject.data.held_out)
    found = memory.diagnose(subject)
    later = predict(subject, subject.args.batch_size, bf16=False, from_cache=True)
    assert any(f"a step that only reads it takes {later.peak:,.0f} MB" in note for note in found.notes)
    (table,) = found.measured
    frozen = float(table.rows[0][table.columns.index("frozen")])
    assert frozen == pytest.approx(open_backbone(subject.spec).parameters * 4 / 1e6, abs=0.06)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 4])
def test_the_largest_batch_through_a_backbone_fits_and_a_twentieth_more_does_not(seen_through, rank):
    subject = seen_through(lora_rank=rank)
    found = largest_batch([predict(subject, batch, bf16=False) for batch in (32, 64)], 25.0)
    assert found is not None
    batch, peak = found
    assert predict(subject, batch, bf16=False).peak == pytest.approx(peak, rel=0.02)
    assert peak <= 25.0 < predict(subject, round(1.05 * batch) + 1, bf16=False).peak
