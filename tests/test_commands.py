"""Every command tells a flag that it does not know in one line, and exits with 2."""

from __future__ import annotations

import pytest

import tinyvla
from trainer.diagnose import SUBCOMMANDS

WITH_SUBCOMMANDS = {"bench": ["serve"], "diagnose": list(SUBCOMMANDS)}
COMMANDS = [
    [name, *more]
    for name in tinyvla.COMMANDS
    for more in ([[sub] for sub in WITH_SUBCOMMANDS.get(name, [])] or [[]])
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_flag_that_there_is_not_is_one_line(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert tinyvla.main([*command, "--no-such-flag"]) == 2
    told = capsys.readouterr()
    line = told.err.strip()
    assert line.startswith(f"tinyvla {command[0]}: ")
    assert line.endswith(f"; see tinyvla {' '.join(command)} --help")
    assert "\n" not in line
    assert told.out == ""


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["keys"], "Missing"),
        (["keys", "robot", "--out"], "--out"),
        (["rig-sim", "--seed", "x"], "--seed"),
        (["train", "--dataset-dir", "x", "--epochs", "many"], "--epochs"),
        (["train", "--dataset-dir", "x", "--head", "gan"], "'gan'"),
    ],
)
def test_a_value_that_does_not_read_is_one_line(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tinyvla.main(argv) == 2
    line = capsys.readouterr().err.strip()
    assert said in line
    assert "\n" not in line
    assert "│" not in line
