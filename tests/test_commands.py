"""Every command tells a flag that it does not know in one line, and exits with 2."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

import tinyvla
from trainer.diagnose import SUBCOMMANDS

ROOT = Path(__file__).resolve().parents[1]
WITH_SUBCOMMANDS = {"bench": ["serve"], "diagnose": list(SUBCOMMANDS)}
COMMANDS = [
    [name, *more]
    for name in tinyvla.COMMANDS
    for more in ([[sub] for sub in WITH_SUBCOMMANDS.get(name, [])] or [[]])
]


@pytest.mark.parametrize("name", tinyvla.COMMANDS)
def test_every_command_is_on_a_page(name: str) -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    assert any(f"tinyvla {name}" in page.read_text() for page in pages)


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


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn"), 2, "torch is not installed"),
        (PermissionError(errno.EACCES, "Permission denied", "/data/x"), 2, "/data/x: Permission denied"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "file/x"), 2, "file/x: Not a directory"),
        (FileExistsError(errno.EEXIST, "File exists", "file"), 2, "file: File exists"),
        (KeyboardInterrupt(), 130, ""),
    ],
    ids=["an extra", "a permission", "a file in the way", "a file where a directory is to be", "Ctrl-C"],
)
def test_what_is_no_fault_of_the_program_is_no_traceback(monkeypatch, capsys, error, code, told) -> None:
    def fails(argv: list[str]) -> int:
        raise error

    monkeypatch.setattr("trainer.collect.main", fails)
    assert tinyvla.main(["collect"]) == code
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == bool(told)


@pytest.mark.parametrize(
    "error", [ModuleNotFoundError("no", name="trainer.nothing"), OSError(errno.EBADF, "bad", "x")]
)
def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch, error) -> None:
    def fails(argv: list[str]) -> int:
        raise error

    monkeypatch.setattr("trainer.collect.main", fails)
    with pytest.raises(type(error)):
        tinyvla.main(["collect"])
