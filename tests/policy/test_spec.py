"""The contract refuses what contradicts itself, survives JSON, and has an identity of its own."""

from __future__ import annotations

import hashlib
import json

import pytest
from pydantic import ValidationError

from policy.spec import ActionSpec, CameraSpec, Normalization, PolicySpec, RangeStats, SamplerSpec, StateSpec


def action(**changes) -> dict:
    fields = {
        "names": ("a", "b"), "units": ("m", "m"), "kind": "delta", "low": (-1.0, -1.0), "high": (1.0, 1.0),
        "rate_hz": 80.0,
    }  # fmt: skip
    return {**fields, **changes}


def test_a_backbone_sees_the_cameras_of_the_policy_and_no_others(make_spec):
    spec = make_spec(cameras=("front", "side"))
    backbone = {
        "name": "some/model", "sha256": "0" * 64, "model_type": "llava", "views": ("side", "front"), "prompt": "",
        "tokens": 8, "width": 4, "dtype": "bf16",
    }  # fmt: skip
    found = PolicySpec.model_validate({**spec.model_dump(), "backbone": backbone})
    assert PolicySpec.model_validate_json(found.model_dump_json()) == found
    assert found.hash != spec.hash
    with pytest.raises(ValidationError, match=r"backbone\.views \['side', 'back'\] are not the cameras"):
        PolicySpec.model_validate({**spec.model_dump(), "backbone": {**backbone, "views": ("side", "back")}})


def test_policies_without_a_backbone_keep_the_hash_they_were_shipped_with(make_spec):
    assert "backbone" not in json.loads(make_spec().model_dump_json())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": "diffusion", "sampler": None}, "a diffusion head needs a sampler"),
        ({"max_prefix": 8}, "max_prefix must be shorter than the horizon"),
        ({"max_prefix": -1}, "greater than or equal to 0"),
        ({"horizon": 0}, "greater than 0"),
        ({"n_obs_steps": 2}, "Input should be 1"),
        ({"format": "tinyvla-policy/2"}, "tinyvla-policy/1"),
        ({"head": "gan"}, "'diffusion' or 'regression'"),
        ({"surprise": 1}, "Extra inputs are not permitted"),
        ({"state": StateSpec(names=("x",), units=("m",))}, "normalization.state must have 1 entries"),
    ],
)
def test_a_contradictory_contract_is_refused_with_the_reason(make_spec, changes, message):
    fields = {**make_spec().model_dump(), **changes}
    with pytest.raises(ValidationError, match=message):
        PolicySpec.model_validate(fields)


def test_a_regression_head_has_no_sampler(make_spec):
    with pytest.raises(ValidationError, match="a regression head has none"):
        PolicySpec.model_validate({**make_spec().model_dump(), "head": "regression"})


def test_camera_names_may_not_repeat(make_spec):
    with pytest.raises(ValidationError, match="camera names repeat"):
        make_spec(cameras=("front", "front"))


def test_every_sensor_needs_statistics(make_spec, force):
    spec = make_spec()
    with pytest.raises(ValidationError, match=r"no normalization for sensors \['force'\]"):
        PolicySpec.model_validate({**spec.model_dump(), "sensors": [force.model_dump()]})


def test_action_statistics_have_one_entry_per_dimension(make_spec):
    stats = Normalization(
        state=RangeStats(minimum=(0.0, 0.0), maximum=(1.0, 1.0)),
        action=RangeStats(minimum=(0.0,), maximum=(1.0,)),
    )
    with pytest.raises(ValidationError, match=r"normalization\.action must have 3 entries"):
        make_spec(normalization=stats)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"units": ("m",)}, "one entry per dimension"),
        ({"low": (-1.0,)}, "one entry per dimension"),
        ({"low": (1.0, -1.0)}, "low must be below its high"),
        ({"low": (float("-inf"), 0.0)}, "finite number"),
        ({"high": (float("nan"), 1.0)}, "finite number"),
        ({"rate_hz": 0}, "greater than 0"),
        ({"kind": "torque"}, "'delta', 'absolute' or 'velocity'"),
    ],
)
def test_an_action_that_makes_no_sense_is_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        ActionSpec(**action(**changes))


def test_state_names_and_units_go_together():
    with pytest.raises(ValidationError, match="2 state names but 1 units"):
        StateSpec(names=("x", "y"), units=("m",))


def test_the_default_step_count_is_one_the_sampler_allows():
    with pytest.raises(ValidationError, match="default_steps may not exceed train_steps"):
        SamplerSpec(train_steps=5, default_steps=10)


@pytest.mark.parametrize("changes", [{"height": 0}, {"width": -1}, {"color": "bgr"}, {"resize": "pad"}])
def test_a_camera_that_makes_no_sense_is_refused(changes):
    with pytest.raises(ValidationError):
        CameraSpec(**{"name": "front", "height": 8, "width": 8, **changes})


def test_json_gives_back_the_same_contract(make_spec, force):
    spec = make_spec(cameras=("front", "side"), sensors=(force,), measured=({"task": "reach", "rate": 0.9},))
    again = PolicySpec.model_validate_json(spec.model_dump_json(indent=1))
    assert again == spec
    assert again.hash == spec.hash


def test_the_hash_does_not_depend_on_the_order_of_keys(make_spec):
    spec = make_spec()
    backwards = dict(reversed(json.loads(spec.model_dump_json()).items()))
    assert PolicySpec.model_validate(backwards).hash == spec.hash


def test_the_hash_is_that_of_the_canonical_json(make_spec):
    """Anyone can work it out from `policy.json` less its `measured`: sorted keys, no spaces, UTF-8."""
    document = json.loads(make_spec().model_dump_json(indent=1))
    del document["measured"]
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    assert make_spec().hash == hashlib.sha256(canonical).hexdigest()


def test_results_do_not_make_it_another_policy(make_spec):
    assert make_spec(measured=({"task": "reach", "successes": 49},)).hash == make_spec().hash


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"horizon": 9},
        {"files": {"model.safetensors": "ab"}},
    ],
)
def test_whatever_differs_gives_another_hash(make_spec, changes):
    assert make_spec(**changes).hash != make_spec().hash


def test_the_label_is_the_name_and_the_start_of_the_hash(make_spec):
    spec = make_spec()
    assert spec.label == f"small@{spec.hash[:12]}"


def test_a_contract_cannot_be_changed_in_place(make_spec):
    with pytest.raises(ValidationError, match="frozen"):
        make_spec().horizon = 3
