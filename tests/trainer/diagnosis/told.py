"""`tinyvla diagnose` as a person calls it: what it prints and its exit code."""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import dataclass
from pathlib import Path

import tinyvla


@dataclass(frozen=True)
class Told:
    """What came of a call."""

    exit_code: int
    text: str

    @property
    def codes(self) -> tuple[str, ...]:
        """The verdicts' names, in order."""
        return tuple(re.findall(r"^verdict: ([a-z-]+): ", self.text, re.MULTILINE))

    def of(self, code: str) -> str:
        """Evidence, cause and remedy of one verdict."""
        found = re.search(
            rf"^verdict: {code}: .*\n  likely cause: .*\n  remedy: .*$", self.text, re.MULTILINE
        )
        assert found is not None, f"no verdict {code} in:\n{self.text}"
        return found[0]


def diagnosed(what: str, path: Path, *flags: str, samples: int = 96) -> Told:
    """Run the command on the processor; a verdict and exit code 1 go together, and so do none and 0."""
    printed = io.StringIO()
    fixed = ("--device", "cpu", "--samples", str(samples))
    with contextlib.redirect_stdout(printed):
        exit_code = tinyvla.main(["diagnose", what, str(path), *fixed, *flags])
    told = Told(exit_code, printed.getvalue())
    assert exit_code == (1 if told.codes else 0), told.text
    assert told.codes or told.text.endswith("verdict: no fault found\n")
    return told
