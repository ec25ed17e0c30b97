"""Every flag has its environment variable, flags win, and what does not read is told in one line."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

import pytest

from policy.errors import UsageError
from policy.null import null_spec
from service.serve import first_loads
from service.settings import DEFAULT_BUNDLE, ServeSettings, read_settings

# A value unlike the default for every setting, as text and as read.
OTHER: dict[str, tuple[str, object]] = {
    "bundle": ("some/bundle", (Path("some/bundle"),)),
    "bundle_root": ("tests", (Path("tests"),)),
    "watch": ("tests", Path("tests")),
    "backbone_dir": ("tests", Path("tests")),
    "host": ("127.0.0.2", "127.0.0.2"),
    "port": ("81", 81),
    "zmq_port": ("82", 82),
    "groot_port": ("83", 83),
    "token": ("s3cret", "s3cret"),
    "admin_token": ("s3cret", "s3cret"),
    "alias": ("observation/image=corner4", ("observation/image=corner4",)),
    "max_body_mb": ("8", 8),
    "tls_cert": ("some/cert.pem", Path("some/cert.pem")),
    "tls_key": ("some/key.pem", Path("some/key.pem")),
    "curve_key": ("some/server.key_secret", Path("some/server.key_secret")),
    "curve_clients": ("some/robots", Path("some/robots")),
    "runtime": ("onnx", "onnx"),
    "device": ("cpu", "cpu"),
    "max_batch": ("3", 3),
    "max_wait_ms": ("1.5", 1.5),
    "queue_size": ("4", 4),
    "grace_s": ("5", 5.0),
    "threads": ("1", 1),
    "log_level": ("debug", "debug"),
    "log_format": ("json", "json"),
    "null": ("1", True),
    "null_contract": ("some/rig.json", Path("some/rig.json")),
    "null_run_ms": ("2.5", 2.5),
}


def test_every_setting_is_tried_here() -> None:
    assert [field.name for field in fields(ServeSettings)] == list(OTHER)


@pytest.mark.parametrize("name", OTHER)
def test_each_setting_reads_from_flag_and_from_environment(name: str) -> None:
    text, value = OTHER[name]
    flag = f"--{name.replace('_', '-')}"
    assert getattr(read_settings([], {}), name) != value
    assert getattr(read_settings([flag] if name == "null" else [flag, text], {}), name) == value
    assert getattr(read_settings([], {f"TINYVLA_{name.upper()}": text}), name) == value


def test_flags_win_over_the_environment() -> None:
    environ = {"TINYVLA_PORT": "81", "TINYVLA_BUNDLE": "theirs", "TINYVLA_NULL": "true"}
    settings = read_settings(["--port", "82", "--bundle", "mine", "--no-null"], environ)
    assert (settings.port, settings.bundle, settings.null) == (82, (Path("mine"),), False)


def test_without_a_bundle_the_shipped_one_is_served() -> None:
    assert read_settings([], {}).bundle == (DEFAULT_BUNDLE,)
    assert read_settings(
        [], {"TINYVLA_BUNDLE": "", "TINYVLA_PORT": "", "TINYVLA_NULL": "0"}
    ) == read_settings([], {})
    assert DEFAULT_BUNDLE.parent.parent == Path(__file__).resolve().parents[2]
    assert read_settings(["--watch", "tests"], {}).bundle == ()  # which may be empty, and fill later


def test_a_separator_at_the_end_of_a_list_means_nothing() -> None:
    environ = {"TINYVLA_BUNDLE": f"tests{os.pathsep}", "TINYVLA_ALIAS": "a=corner4,"}
    settings = read_settings([], environ)
    assert (settings.bundle, settings.alias) == ((Path("tests"),), ("a=corner4",))


def test_ports_of_kubernetes_services_are_none_of_the_settings() -> None:
    names = ("TINYVLA_PORT", "TINYVLA_ZMQ_PORT", "TINYVLA_GROOT_PORT")
    assert read_settings([], dict.fromkeys(names, "tcp://10.0.0.7:5570")) == read_settings([], {})


def test_a_token_read_from_a_file_is_the_one_that_a_header_can_carry() -> None:
    settings = read_settings(["--admin-token", "ours\n"], {"TINYVLA_TOKEN": "s3cret\n"})
    assert (settings.token, settings.admin_token) == ("s3cret", "ours")


def test_bundles_and_roots_may_be_given_several_times() -> None:
    two = (Path("tests"), Path("docs"))
    flags = [f"--{name}={path}" for name in ("bundle", "bundle-root") for path in two]
    environ = {f"TINYVLA_{name}": f"tests{os.pathsep}docs" for name in ("BUNDLE", "BUNDLE_ROOT")}
    for settings in (read_settings(flags, {}), read_settings([], environ)):
        assert (settings.bundle, settings.bundle_root) == (two, two)


@pytest.mark.parametrize(
    ("argv", "environ", "said"),
    [
        (["--port", "x"], {}, "--port"),
        (["--port", "70000"], {}, "--port: expected 0 ... 65535, got 70000"),
        (["--prot", "1"], {}, "--prot"),
        (["--runtime", "tensorrt"], {}, "tensorrt"),
        (["--max-batch", "0"], {}, "--max-batch"),
        (["--queue-size", "0"], {}, "--queue-size"),
        (["--threads", "0"], {}, "--threads"),
        (["--null-run-ms", "nan"], {}, "--null-run-ms"),
        (["stray"], {}, "stray"),
        (["--watch", "no/such"], {}, "--watch no/such: no such directory"),
        (["--bundle-root", "tests", "--bundle-root", "no/such"], {}, "--bundle-root no/such"),
        ([], {"TINYVLA_BACKBONE_DIR": "no/such"}, "--backbone-dir no/such"),
        (["--max-wait-ms", "-1"], {}, "--max-wait-ms"),
        (["--grace-s", "-1"], {}, "--grace-s"),
        (["--token", ""], {}, "--token is empty"),
        (["--token", " "], {}, "--token is empty"),
        (["--admin-token="], {}, "--admin-token is empty"),
        ([], {"TINYVLA_ADMIN_TOKEN": " "}, "--admin-token is empty"),
        (["--token", "schlüssel"], {}, "--token: only printable ASCII"),
        ([], {"TINYVLA_ADMIN_TOKEN": "a\nb"}, "--admin-token: only printable ASCII"),
        ([], {"TINYVLA_PORT": "eighty"}, "TINYVLA_PORT"),
        ([], {"TINYVLA_DEVICE": "tpu"}, "TINYVLA_DEVICE"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(
    argv: list[str], environ: dict[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError) as error:
        read_settings(argv, environ)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert "│" not in str(error.value)
    assert capsys.readouterr().err == ""


def test_help_names_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        read_settings(["--help"], {})
    assert end.value.code == 0
    told = capsys.readouterr().out
    assert all(f"--{name.replace('_', '-')}" in told for name in OTHER)


def test_the_null_policy_takes_any_contract(tmp_path: Path) -> None:
    path = tmp_path / "rig.json"
    path.write_text(null_spec(cameras=("a", "b"), action_dim=6).model_dump_json())
    (load,) = first_loads(read_settings(["--null", "--null-contract", str(path)], {}))
    spec = load.make().spec
    assert [camera.name for camera in spec.cameras] == ["a", "b"]
    assert spec.action.dim == 6


@pytest.mark.parametrize(
    ("text", "told"), [("{}", "Field required"), ("no json", "Invalid JSON"), (None, "No such file")]
)
def test_a_contract_that_is_none_is_one_line(tmp_path: Path, text: str | None, told: str) -> None:
    path = tmp_path / "rig.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=told) as caught:
        first_loads(read_settings(["--null", "--null-contract", str(path)], {}))
    assert "\n" not in str(caught.value)
