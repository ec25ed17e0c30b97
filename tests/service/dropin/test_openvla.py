"""OpenVLA's clients as they are written, `requests` with json-numpy, against `POST /act`."""

from __future__ import annotations

from typing import Any

import json_numpy
import numpy as np
import pytest
import requests

from service.running import RunningServer

from .conftest import TOKEN


@pytest.fixture
def openvla(image: np.ndarray) -> dict[str, Any]:
    """What OpenVLA's own example sends, and the state, which it has none of and our policies need."""
    return {
        "image": image,
        "instruction": "do something",
        "unnorm_key": "bridge",
        "state": np.zeros(4),
        "seed": 3,
    }


@pytest.fixture
def oft(image: np.ndarray) -> dict[str, Any]:
    return {"full_image": image, "wrist_image": image, "state": np.zeros(4), "instruction": "go", "seed": 3}


def act(server: RunningServer, body: object, token: str | None = None) -> requests.Response:
    """What ``requests.post(url, json=body)`` does after `json_numpy.patch()`.

    Patched for real, the json module of the server in this process would read arrays as well.
    """
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = json_numpy.dumps(body, allow_nan=False)
    return requests.post(f"{server.http_url}/act", data=data, headers=headers, timeout=20)


def read(response: requests.Response) -> Any:
    """What ``response.json()`` does after the patch."""
    assert response.status_code == 200, response.text
    return json_numpy.loads(response.text)


def test_openvla_gets_one_bare_action(one_camera: RunningServer, openvla: dict[str, Any]) -> None:
    response = act(one_camera, openvla)
    assert response.headers["content-type"] == "application/json"
    action = read(response)
    assert isinstance(action, np.ndarray)
    assert (action.shape, action.dtype) == ((4,), np.float32)


def test_oft_gets_the_chunk_as_a_list_and_it_is_the_same_chunk(
    one_camera: RunningServer, openvla: dict[str, Any], oft: dict[str, Any]
) -> None:
    chunk = read(act(one_camera, oft))
    assert isinstance(chunk, list)
    assert len(chunk) == 48
    assert all(action.shape == (4,) for action in chunk)
    np.testing.assert_array_equal(read(act(one_camera, openvla)), chunk[0])


@pytest.mark.parametrize("which", ["openvla", "oft"])
def test_what_comes_wrapped_as_text_goes_back_as_text(
    one_camera: RunningServer, which: str, request: pytest.FixtureRequest
) -> None:
    body = request.getfixturevalue(which)
    plain = read(act(one_camera, body))
    wrapped = read(act(one_camera, {"encoded": json_numpy.dumps(body)}))
    assert isinstance(wrapped, str)
    np.testing.assert_array_equal(json_numpy.loads(wrapped), plain)


def test_oft_finds_its_cameras_through_the_alias_table(
    two_cameras: RunningServer, oft: dict[str, Any]
) -> None:
    assert len(read(act(two_cameras, oft, TOKEN))) == 48


def test_numpy_scalars_are_numbers(one_camera: RunningServer, openvla: dict[str, Any]) -> None:
    assert act(one_camera, openvla | {"ddim_steps": np.int64(3)}).status_code == 200
    assert act(one_camera, openvla | {"ddim_steps": np.int64(500)}).status_code == 422


def test_what_the_policy_has_no_use_for_may_be_of_any_numbers(
    one_camera: RunningServer, openvla: dict[str, Any]
) -> None:
    assert (
        act(one_camera, openvla | {"first": np.True_, "depth": np.zeros((20, 24), np.uint16)}).status_code
        == 200
    )
    assert act(one_camera, openvla | {"state": np.zeros(4, bool)}).status_code == 400


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"state": None}, 422, "contract_mismatch"),
        ({"state": np.zeros(3)}, 422, "contract_mismatch"),
        ({"image": "a picture"}, 422, "contract_mismatch"),
        ({"image": np.zeros((4, 4), np.uint8)}, 422, "contract_mismatch"),
        ({"image": {"__numpy__": "%%%", "dtype": "|u1", "shape": [1]}}, 400, "malformed"),
        ({"image": {"__numpy__": "AAAA", "dtype": "|O", "shape": [1]}}, 400, "malformed"),
        ({"image": {"__numpy__": "AAAA", "dtype": [["a", "|u1"]], "shape": [4]}}, 400, "malformed"),
        ({"instruction": 3}, 400, "malformed"),
        ({"policy": "other"}, 404, "unknown_policy"),
    ],
    ids=repr,
)
def test_an_error_is_never_status_200(
    one_camera: RunningServer, openvla: dict[str, Any], change: dict[str, Any], status: int, code: str
) -> None:
    response = act(one_camera, openvla | change)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "body", [{"encoded": 1}, {"encoded": "{"}, {"encoded": "[1]"}, {"encoded": "{}", "image": 1}]
)
def test_text_that_holds_no_json_is_malformed(one_camera: RunningServer, body: dict[str, Any]) -> None:
    assert act(one_camera, body).json()["code"] == "malformed"


def test_the_body_alone_tells_the_dialects_apart(one_camera: RunningServer) -> None:
    both = act(one_camera, {"images": {}, "image": 1, "state": []}).json()
    assert (both["code"], both["field"]) == ("malformed", "image")


def test_the_token_locks_this_dialect_too(two_cameras: RunningServer, oft: dict[str, Any]) -> None:
    assert act(two_cameras, oft).status_code == 401
