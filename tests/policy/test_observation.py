"""What does not fit the contract is refused by the field's name, with what was expected and what came."""

from __future__ import annotations

import numpy as np
import pytest

from policy.errors import TinyVLAError
from policy.observation import SampleOptions, check_observation, check_options

IMAGE = np.zeros((32, 32, 3), np.uint8)
WINDOW = np.zeros((8, 2), np.float32)

# what is changed, field of the refusal, words of what was expected, words of what came
WRONG_OBSERVATIONS = [
    ({"images": {}}, "images", "'front'", "[]"),
    ({"images": {"rear": IMAGE}}, "images", "'front'", "'rear'"),
    ({"images": {"front": IMAGE, "rear": IMAGE}}, "images", "['front']", "['front', 'rear']"),
    ({"images": {"front": IMAGE[..., 0]}}, "images.front", "uint8 [H, W, 3]", "[32, 32]"),
    ({"images": {"front": IMAGE[..., :1]}}, "images.front", "uint8 [H, W, 3]", "[32, 32, 1]"),
    ({"images": {"front": IMAGE.astype(np.float32)}}, "images.front", "uint8", "float32"),
    ({"images": {"front": IMAGE[:0]}}, "images.front", "uint8 [H, W, 3]", "[0, 32, 3]"),
    ({"state": np.zeros(3, np.float32)}, "state", "[2] (x, y)", "[3]"),
    ({"state": np.zeros((1, 2), np.float32)}, "state", "[2]", "[1, 2]"),
    ({"state": np.float32([0, np.nan])}, "state", "finite", "y"),
    ({"state": np.float32([-np.inf, np.nan])}, "state", "finite", "x, y"),
    ({"state": np.float32([-3e38, 0])}, "state", "at most 1e+12", "x"),
    ({"state": np.float32([0, 1.01e12])}, "state", "at most 1e+12", "y"),
    ({"state": np.array([2**48, 0])}, "state", "at most 1e+12", "x"),  # its square is 0 in 64 bits
    ({"instruction": ""}, "instruction", "task in words", "nothing"),
    ({"instruction": " \n\t"}, "instruction", "task in words", "nothing"),
    ({"instruction": "...?"}, "instruction", "task in words", "nothing"),
    ({"sensors": {"force": WINDOW, "heat": WINDOW}}, "sensors.heat", "['force']", "unknown sensor"),
    ({"sensors": {"force": WINDOW[:, :1]}}, "sensors.force", "[T <= 8, 2]", "[8, 1]"),
    ({"sensors": {"force": np.zeros((9, 2), np.float32)}}, "sensors.force", "[T <= 8, 2]", "[9, 2]"),
    ({"sensors": {"force": WINDOW[:, 0]}}, "sensors.force", "[T <= 8, 2]", "[8]"),
    ({"sensors": {"force": WINDOW * np.nan}}, "sensors.force", "finite", "NaN"),
]


@pytest.mark.parametrize(("changes", "field", "expected", "actual"), WRONG_OBSERVATIONS)
def test_a_wrong_field_is_named_with_what_was_expected_and_what_came(
    make_spec, make_observation, force, changes, field, expected, actual
):
    spec = make_spec(sensors=(force,))
    with pytest.raises(TinyVLAError) as caught:
        check_observation(spec, make_observation(spec, **changes))
    error = caught.value
    assert (error.code, error.status, error.field) == ("contract_mismatch", 422, field)
    assert expected in error.expected
    assert actual in error.actual
    assert error.expected in str(error)
    assert error.actual in str(error)
    assert "\n" not in str(error)


def test_what_fits_is_accepted(make_spec, make_observation, force):
    spec = make_spec(cameras=("front", "side"), sensors=(force,))
    check_observation(spec, make_observation(spec))
    check_observation(spec, make_observation(spec, sensors={}))  # optional
    check_observation(spec, make_observation(spec, sensors={"force": WINDOW[:3]}))  # shorter: padded later
    big = {name: np.zeros((480, 640, 3), np.uint8) for name in ("front", "side")}
    check_observation(spec, make_observation(spec, images=big))  # resized later


def test_a_sensor_that_is_not_optional_must_be_there(make_spec, make_observation, force):
    spec = make_spec(sensors=(force.model_copy(update={"optional": False}),))
    for absent in ({}, {"force": WINDOW[:0]}):
        with pytest.raises(TinyVLAError) as caught:
            check_observation(spec, make_observation(spec, sensors=absent))
        assert caught.value.field == "sensors.force"


def test_an_instruction_may_be_empty_where_the_contract_does_not_need_one(make_spec, make_observation):
    spec = make_spec(instruction={"required": False})
    check_observation(spec, make_observation(spec, instruction=""))


def test_values_up_to_the_bound_pass(make_spec, make_observation):
    spec = make_spec()
    check_observation(spec, make_observation(spec, state=np.float32([9.9e11, -9.9e11])))


WRONG_OPTIONS = [
    (SampleOptions(ddim_steps=0), "contract_mismatch", "ddim_steps", "1 ... 100", "0"),
    (SampleOptions(ddim_steps=101), "contract_mismatch", "ddim_steps", "1 ... 100", "101"),
    (SampleOptions(sampler="euler"), "contract_mismatch", "sampler", "'ddpm'", "'euler'"),  # type: ignore[arg-type]
    (SampleOptions(samples=0), "contract_mismatch", "samples", "1 ... 32", "0"),
    (SampleOptions(samples=33), "contract_mismatch", "samples", "1 ... 32", "33"),
    (SampleOptions(seed=-1), "malformed", "seed", None, "-1"),
    (SampleOptions(seed=2**63), "malformed", "seed", None, str(2**63)),
    (SampleOptions(prefix=np.zeros((5, 3))), "contract_mismatch", "prefix", "[d <= 4, 3]", "[5, 3]"),
    (SampleOptions(prefix=np.zeros((2, 2))), "contract_mismatch", "prefix", "[d <= 4, 3]", "[2, 2]"),
    (SampleOptions(prefix=np.zeros(3)), "contract_mismatch", "prefix", "[d <= 4, 3]", "[3]"),
    (
        SampleOptions(prefix=np.full((1, 3), np.inf)),
        "contract_mismatch",
        "prefix",
        "finite",
        "NaN, infinity or a larger one",
    ),
]


@pytest.mark.parametrize(("options", "code", "field", "expected", "actual"), WRONG_OPTIONS)
def test_an_option_the_policy_cannot_do_is_refused(make_spec, options, code, field, expected, actual):
    with pytest.raises(TinyVLAError) as caught:
        check_options(make_spec(), options)
    assert (caught.value.code, caught.value.field) == (code, field)
    assert caught.value.actual == actual
    assert expected is None or expected in caught.value.expected


@pytest.mark.parametrize(
    "options",
    [
        SampleOptions(),
        SampleOptions(ddim_steps=1),
        SampleOptions(ddim_steps=100, samples=32, seed=0),
        SampleOptions(sampler="ddpm", seed=2**63 - 1),
        SampleOptions(prefix=np.zeros((0, 3))),
        SampleOptions(prefix=np.full((4, 3), 1e3)),
    ],
)
def test_the_ends_of_every_range_are_allowed(make_spec, options):
    check_options(make_spec(), options)


@pytest.mark.parametrize("steps", [1, 10, 500])
def test_a_regression_policy_answers_whatever_number_of_steps_is_asked_for(make_spec, steps):
    """The same call goes to both kinds of policy; the reply says that one pass was made."""
    check_options(make_spec(head="regression"), SampleOptions(ddim_steps=steps))


@pytest.mark.parametrize("steps", [0, -1])
def test_no_policy_takes_less_than_one_step(make_spec, steps):
    with pytest.raises(TinyVLAError) as caught:
        check_options(make_spec(head="regression"), SampleOptions(ddim_steps=steps))
    assert (caught.value.field, caught.value.expected, caught.value.actual) == (
        "ddim_steps",
        "1 or more",
        str(steps),
    )
