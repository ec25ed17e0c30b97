"""Which attempts a collection makes and keeps: a function of their outcomes, not of when they came in."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from policy.errors import UsageError

# An expert that fails this often in a row is not going to fill a dataset.
_HOPELESS_ATTEMPTS = 60


@dataclass(frozen=True)
class Job:
    """One attempt to make."""

    task: str
    attempt: int

    @property
    def key(self) -> str:
        return f"{self.task}-{self.attempt:06d}"


def attempt_seed(seed: int, task: str, attempt: int) -> int:
    """The seed of one attempt: independent of every other attempt, task and worker."""
    return int(np.random.SeedSequence([seed, zlib.crc32(task.encode()), attempt]).generate_state(1)[0])


def failed_marker(root: Path, key: str) -> Path:
    """The empty file that remembers an attempt which did not succeed."""
    return root / ".staging" / f"{key}.failed"


@dataclass
class TaskAttempts:
    """Which attempts of a task are done; decides which is next and when the task is full."""

    task: str
    wanted: int
    outcome: dict[int, bool]
    next_attempt: int = 0

    def kept(self) -> list[int] | None:
        """The first `wanted` successes in order of attempt, or None while earlier attempts are still open."""
        kept: list[int] = []
        for attempt in range(len(self.outcome) + 1):
            if len(kept) == self.wanted:
                return kept
            if attempt not in self.outcome:
                return None
            if self.outcome[attempt]:
                kept.append(attempt)
        return None

    def jobs(self) -> Iterator[Job]:
        """Attempts to make, for as long as the task is not full."""
        while sum(self.outcome.values()) < self.wanted or self.next_attempt <= max(self.outcome):
            if self.next_attempt not in self.outcome:
                yield Job(self.task, self.next_attempt)
            self.next_attempt += 1

    def check(self) -> None:
        """Raise UsageError when the expert has never succeeded."""
        if len(self.outcome) >= _HOPELESS_ATTEMPTS and not any(self.outcome.values()):
            raise UsageError(
                f"the expert of {self.task} failed {len(self.outcome)} times in a row; use less --noise"
            )


def earlier_outcomes(root: Path, task: str, staged: set[str]) -> dict[int, bool]:
    """Attempts already made by an earlier run of the same command."""
    done = {int(key.rpartition("-")[2]): True for key in staged if key.rpartition("-")[0] == task}
    for marker in (root / ".staging").glob(f"{task}-*.failed"):
        name, _, attempt = marker.stem.rpartition("-")
        if name == task:
            done[int(attempt)] = False
    return done
