"""The recorded version is this code's own commit, or says that it is not known."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from trainer.code_version import code_version


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A repository with one commit."""
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], [*who, "commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


def test_a_checkout_says_its_commit(checkout) -> None:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True)
    assert code_version(checkout) == commit.stdout[:12]


def test_installed_inside_somebody_elses_checkout_it_is_unknown(checkout) -> None:
    installed = checkout / "venv" / "site-packages"
    installed.mkdir(parents=True)
    assert code_version(installed) == "unknown"


def test_without_a_commit_a_checkout_or_git_it_is_unknown(tmp_path, monkeypatch) -> None:
    assert code_version(tmp_path) == "unknown"
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    assert code_version(tmp_path) == "unknown"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code_version() == "unknown"
