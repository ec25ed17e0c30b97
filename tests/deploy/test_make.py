"""What make promises before anything is installed: help, a virtual environment, or one line on what is missing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "deploy" / "make_venv.sh"


def make(*arguments: str) -> str:
    # `make test` runs this, and its own flags are not meant for the make in here.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", "-C", ROOT, "--no-print-directory", *arguments],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    ).stdout


def make_venv(python: str | Path, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", SCRIPT, python, directory], capture_output=True, text=True, check=False, cwd=directory.parent
    )


def stand_in(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_make_alone_lists_every_target_with_what_it_does() -> None:
    phony = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[0].split()
    assert {"demo", "test", "test-image", "lint", "help", "serve"} <= set(phony)
    listed = dict(re.findall(r"^  make (\S+)\s+(\S.*)$", make(), re.MULTILINE))
    assert set(listed) == set(phony)


@pytest.mark.parametrize(
    ("target", "extras"), [("demo", "cpu,sim"), ("test", "cpu,sim,train,vlm,viz,cluster,dev")]
)
def test_each_command_installs_what_it_needs_and_no_more(target: str, extras: str, tmp_path: Path) -> None:
    planned = make("--dry-run", f"VENV={tmp_path}/new", target)
    assert re.findall(r"'\.\[(.*)\]'", planned) == [extras]
    assert "-c constraints.txt" in planned
    assert ("openpi-client" in planned) == (target == "test")


def test_a_python_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    done = make_venv("python3-not-there", tmp_path / "venv")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "apt-get install" in done.stderr


def test_a_python_that_is_too_old_is_one_line_with_its_version(tmp_path: Path) -> None:
    old = stand_in(tmp_path / "python3", 'case "$1" in -V) echo Python 3.10.12;; *) exit 1;; esac')
    done = make_venv(old, tmp_path / "venv")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "3.10.12" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_without_ensurepip_and_pip_one_line_names_the_package(tmp_path: Path) -> None:
    """Debian's python3 alone."""
    bare = stand_in(
        tmp_path / "python3",
        f'case "$*" in *ensurepip*|"-m pip "*) exit 1;; *) exec {sys.executable} "$@";; esac',
    )
    done = make_venv(bare, tmp_path / "venv")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "python3-venv" in done.stderr


@pytest.mark.slow
def test_the_environment_that_is_made_has_pip(tmp_path: Path) -> None:
    done = make_venv(sys.executable, tmp_path / "venv")
    assert done.returncode == 0, done.stderr
    subprocess.run([tmp_path / "venv/bin/python", "-m", "pip", "--version"], check=True, capture_output=True)
