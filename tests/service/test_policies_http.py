"""The admin API: who may, what may be loaded, what is refused, and that a swap under load fails nobody."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from clients.http import HttpClient
from policy.null import NullPolicy
from policy.spec import PolicySpec
from service.bundle_shelf import BundleSource
from service.running import RunningServer
from service.wire import msgpack_codec
from service.wire.messages import ActReply, ActRequest
from tests.service.bundles import open_fake, write_fake

PATIENCE_S = 20.0
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def root(tmp_path: Path, everything: PolicySpec) -> Path:
    """Bundles that may be loaded, beside one that may not."""
    for name in ("allowed/a", "allowed/b", "elsewhere/c"):
        write_fake(tmp_path / name, everything)
    write_fake(tmp_path / "allowed/bad", everything, broken="golden.npz is not the file that was exported")
    (tmp_path / "allowed/link").symlink_to(tmp_path / "elsewhere/c")
    return tmp_path / "allowed"


@pytest.fixture
def running(root: Path, everything: PolicySpec) -> Iterator[RunningServer]:
    source = BundleSource(open_fake, roots=(root,))
    with RunningServer(
        lambda: NullPolicy(everything), bundles=source, token="user", admin_token="admin"
    ) as made:
        yield made


@pytest.fixture
def user(running: RunningServer) -> Iterator[httpx.Client]:
    headers = {"authorization": "Bearer user"}
    with httpx.Client(base_url=running.http_url, headers=headers, timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture
def admin(running: RunningServer) -> Iterator[httpx.Client]:
    headers = {"authorization": "Bearer admin"}
    with httpx.Client(base_url=running.http_url, headers=headers, timeout=PATIENCE_S) as client:
        yield client


def load(client: httpx.Client, bundle: object, **fields: object) -> httpx.Response:
    return client.post("/policies", json={"bundle": bundle, **fields})


def act(client: httpx.Client, request: ActRequest) -> ActReply:
    response = client.post(
        "/act",
        content=msgpack_codec.encode_request(request),
        headers={"content-type": msgpack_codec.CONTENT_TYPE},
    )
    assert response.status_code == 200, msgpack_codec.decode_error(response.content)
    return msgpack_codec.decode_reply(response.content)


def told(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["code"]


def test_load_activate_use_and_unload(
    admin: httpx.Client, user: httpx.Client, request_: ActRequest, everything: PolicySpec
) -> None:
    loaded = load(admin, "a")
    assert loaded.status_code == 201
    label = loaded.json()["policy"]
    assert (loaded.json()["name"], loaded.json()["active"]) == ("a", False)
    listed = user.get("/policies").json()
    assert [(p["name"], p["active"]) for p in listed["policies"]] == [("null", True), ("a", False)]
    assert listed["policies"][1]["why"] == "there is no network to run"
    assert user.get(f"/policies/{label}").json()["name"] == "a"

    plain = replace(request_, policy=None, expects=None)
    assert act(user, plain).policy == everything.label
    assert act(user, replace(plain, policy="a")).policy == label
    assert admin.post("/policies/a/activate").json()["active"] is True
    assert act(user, plain).policy == label
    assert user.get("/readyz").json()["policy"] == label

    assert admin.delete("/policies/null").status_code == 200
    assert [p["policy"] for p in user.get("/policies").json()["policies"]] == [label]
    gone = user.get(f"/policies/{everything.label}")
    assert told(gone) == (404, "unknown_policy")
    assert told(admin.delete("/policies/a")) == (403, "forbidden")  # the active one stays


def test_a_client_that_was_made_for_the_old_policy_is_told(
    admin: httpx.Client, user: httpx.Client, request_: ActRequest
) -> None:
    made_for = replace(request_, policy=None, expects=user.get("/policies").json()["policies"][0]["hash"])
    assert act(user, made_for)
    assert load(admin, "a", activate=True).json()["active"] is True
    refused = user.post(
        "/act",
        content=msgpack_codec.encode_request(made_for),
        headers={"content-type": msgpack_codec.CONTENT_TYPE, "accept": "application/json"},
    )
    assert told(refused) == (422, "contract_mismatch")
    assert refused.json()["field"] == "expects"


@pytest.mark.parametrize(
    ("bundle", "status", "code"),
    [
        ("../elsewhere/c", 403, "forbidden"),
        ("link", 403, "forbidden"),
        ("/etc", 403, "forbidden"),
        ("", 404, "unknown_policy"),
        ("no/such", 404, "unknown_policy"),
        ("nul\0l", 404, "unknown_policy"),
        ("x" * 300, 404, "unknown_policy"),
        ("bad", 422, "contract_mismatch"),
        (3, 400, "malformed"),
        (None, 400, "malformed"),
    ],
)
def test_what_may_not_be_loaded_is_refused_and_changes_nothing(
    admin: httpx.Client, user: httpx.Client, bundle: object, status: int, code: str
) -> None:
    assert told(load(admin, bundle, activate=True)) == (status, code)
    assert len(user.get("/policies").json()["policies"]) == 1


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"bundle": "a", "activate": 1}', b'{"bundle": "a", "x": 1}', b"{"]
)
def test_a_body_that_does_not_read_is_malformed(admin: httpx.Client, body: bytes) -> None:
    assert told(admin.post("/policies", content=body)) == (400, "malformed")


def test_an_absolute_path_beneath_the_root_is_as_good(admin: httpx.Client, root: Path) -> None:
    assert load(admin, str(root / "b")).status_code == 201


def test_only_the_admin_token_changes_policies_and_it_opens_nothing_else(
    admin: httpx.Client, user: httpx.Client
) -> None:
    for client, headers in (
        (user, {}),
        (admin, {"authorization": ""}),
        (admin, {"authorization": "Bearer x"}),
    ):
        for method, path in (
            ("POST", "/policies"),
            ("POST", "/policies/null/activate"),
            ("DELETE", "/policies/null"),
        ):
            assert told(client.request(method, path, headers=headers)) == (401, "unauthorized")
    assert told(admin.get("/policies")) == (401, "unauthorized")


def test_without_an_admin_token_nobody_may_and_without_a_root_nothing_may(everything: PolicySpec) -> None:
    with RunningServer(lambda: NullPolicy(everything)) as closed:
        assert told(httpx.delete(f"{closed.http_url}/policies/null")) == (403, "forbidden")
    source = BundleSource(open_fake)
    with RunningServer(lambda: NullPolicy(everything), bundles=source, admin_token="admin") as rootless:
        headers = {"authorization": "Bearer admin"}
        refused = httpx.post(f"{rootless.http_url}/policies", json={"bundle": "a"}, headers=headers)
        assert told(refused) == (403, "forbidden")
        assert "--bundle-root" in refused.json()["detail"]


@pytest.mark.parametrize("session", ["arm-1", "cell 3/arm 1?", "ärm"])
def test_a_session_can_be_reset_over_http(
    running: RunningServer, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten: list[str] = []
    monkeypatch.setattr(running.engine, "forget_session", forgotten.append)
    client = HttpClient(running.http_url, "user")
    client.reset(session)
    client.close()
    assert forgotten == [session]
    assert httpx.delete(f"{running.http_url}/sessions/x").status_code == 401


def test_swapping_under_load_fails_nobody(
    admin: httpx.Client, running: RunningServer, request_: ActRequest
) -> None:
    """Six robots ask all the time while policies are loaded, activated and unloaded beneath them."""
    stop = threading.Event()
    plain = replace(request_, policy=None, expects=None, deadline_ms=None)

    def robot(number: int) -> set[str]:
        seen = set()
        headers = {"authorization": "Bearer user"}
        with httpx.Client(base_url=running.http_url, headers=headers, timeout=PATIENCE_S) as client:
            while not stop.is_set():
                seen.add(act(client, replace(plain, session=f"robot-{number}")).policy.partition("@")[0])
        return seen

    with ThreadPoolExecutor(6) as pool:
        robots = [pool.submit(robot, number) for number in range(6)]
        try:
            active = "null"
            for name in ("a", "b") * 5:
                assert load(admin, name, activate=True).status_code == 201
                assert admin.delete(f"/policies/{active}").status_code == 200
                active = name
        finally:
            stop.set()
        seen = [each.result(PATIENCE_S) for each in robots]  # raises what any request was refused with
    assert set().union(*seen) >= {"a", "b"}


def test_a_real_bundle_with_one_flipped_bit_is_refused_by_name(tmp_path: Path) -> None:
    from service.serve import bundle_source
    from service.settings import read_settings

    shutil.copytree(ROOT / "bundles" / "metaworld8", tmp_path / "flipped")
    weights = tmp_path / "flipped" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    source = bundle_source(read_settings(["--bundle-root", str(tmp_path)], {}))
    with RunningServer(NullPolicy, bundles=source, admin_token="admin") as running:
        headers = {"authorization": "Bearer admin"}
        refused = httpx.post(
            f"{running.http_url}/policies", json={"bundle": "flipped"}, headers=headers, timeout=PATIENCE_S
        )
        assert told(refused) == (422, "contract_mismatch")
        assert "model.safetensors is not the file that was exported" in refused.json()["detail"]
        assert running.engine.policy.spec.name == "null"
