"""The alias table: what reads, what fits a policy, and that what is missing is said rather than guessed."""

from __future__ import annotations

import numpy as np
import pytest

from policy.errors import TinyVLAError, UsageError
from policy.null import null_spec
from policy.spec import SensorSpec
from service.dropin.aliases import foreign, read_aliases
from service.dropin.openpi_codec import HABITS
from service.dropin.peer_request import peer_request

IMAGE = np.zeros((4, 5, 3), np.uint8)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("corner4", "expected KEY=TARGET"),
        ("=corner4", "expected KEY=TARGET"),
        ("image=", "expected KEY=TARGET"),
        ("joints=state[3]", "parts are written"),
        ("joints=state[3:3]", "3:3 is empty"),
        ("joints=velocity[0:3]", "parts are written"),
    ],
)
def test_a_row_that_does_not_read_is_one_line(row: str, said: str) -> None:
    with pytest.raises(UsageError, match="--alias") as error:
        read_aliases([row])
    assert said in str(error.value)


def test_the_same_row_twice_is_a_slip() -> None:
    with pytest.raises(UsageError, match="twice"):
        read_aliases(["a=b", "a = b"])


def test_rows_that_name_what_the_policy_lacks_are_told() -> None:
    rows = ("a=corner4", "b=wrist", "c=state[0:9]", "d=action[0:4]", "e=sensors.force", "f=instruction")
    assert foreign(read_aliases(rows), null_spec()) == ["b=wrist", "c=state[0:9]", "e=sensors.force"]


def test_every_kind_of_target_is_filled() -> None:
    spec = null_spec(
        cameras=("front", "wrist"),
        sensors=[SensorSpec(name="force", channels=2, window=5, rate_hz=100.0, units="N")],
    )
    rows = (
        "a=front",
        "b=wrist",
        "joints=state[0:3]",
        "grip=state[3:4]",
        "say=instruction",
        "ft=sensors.force",
    )
    flat = {
        "a": IMAGE,
        "b": IMAGE + 1,
        "joints": np.arange(3.0),
        "grip": 9,
        "say": "go",
        "ft": np.ones((2, 2)),
        "seed": 7,
    }
    request = peer_request(flat, spec, read_aliases(rows), HABITS, "openpi-1")
    seen = request.observation
    assert (seen.images["front"][0, 0, 0], seen.images["wrist"][0, 0, 0]) == (0, 1)
    np.testing.assert_array_equal(seen.state, [0, 1, 2, 9])
    assert (seen.instruction, seen.sensors["force"].shape) == ("go", (2, 2))
    assert (request.options.seed, request.session) == (7, "openpi-1")


def test_a_camera_found_by_its_own_name_needs_no_alias() -> None:
    flat = {"observation/front": IMAGE, "images/wrist": IMAGE, "observation/state": np.zeros(4)}
    request = peer_request(flat, null_spec(cameras=("front", "wrist")), (), HABITS)
    assert set(request.observation.images) == {"front", "wrist"}


def test_an_alias_wins_over_the_policys_own_name() -> None:
    flat = {"observation/front": IMAGE, "other": IMAGE + 1, "state": np.zeros(4)}
    request = peer_request(flat, null_spec(cameras=("front",)), read_aliases(["other=front"]), HABITS)
    assert request.observation.images["front"][0, 0, 0] == 1


@pytest.mark.parametrize(
    ("flat", "rows", "said"),
    [
        ({"a": IMAGE, "b": IMAGE, "state": np.zeros(4)}, (), "--alias a=corner4"),
        ({"image": IMAGE, "x": np.zeros(4)}, (), "no state"),
        ({"image": IMAGE, "state/a": np.zeros(2), "state/b": np.zeros(2)}, (), "--alias state/a=state[0:4]"),
        ({"image": IMAGE, "a": np.zeros(2)}, ("a=state[0:2]",), "no alias for s2, s3"),
        ({"image": IMAGE, "a": np.zeros(3)}, ("a=state[0:2]",), "2 values"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_told_is_said_with_the_alias_that_would_help(
    flat: dict[str, object], rows: tuple[str, ...], said: str
) -> None:
    with pytest.raises(TinyVLAError) as error:
        peer_request(flat, null_spec(), read_aliases(rows), HABITS)
    assert error.value.code == "contract_mismatch"
    assert said.replace("'", "") in error.value.detail.replace("'", "")
