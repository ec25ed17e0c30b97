"""Every flag has its environment variable, flags win, and what does not read is told in one line."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

import pytest

from policy.errors import UsageError
from service.settings import DEFAULT_BUNDLE, ServeSettings, read_settings

# A value unlike the default for every setting, as text and as read.
OTHER: dict[str, tuple[str, object]] = {
    "bundle": ("some/bundle", (Path("some/bundle"),)),
    "host": ("127.0.0.2", "127.0.0.2"),
    "port": ("81", 81),
    "zmq_port": ("82", 82),
    "token": ("s3cret", "s3cret"),
    "runtime": ("onnx", "onnx"),
    "device": ("cpu", "cpu"),
    "max_batch": ("3", 3),
    "queue_size": ("4", 4),
    "threads": ("1", 1),
    "log_level": ("debug", "debug"),
    "null": ("1", True),
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
        (["--bundle", "a", "--bundle", "b"], {}, "--bundle"),
        ([], {"TINYVLA_BUNDLE": f"a{os.pathsep}b"}, "--bundle"),
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
