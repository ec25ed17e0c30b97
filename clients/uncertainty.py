"""What to do when the policy's samples disagree: slow down, hold, or ask the operator.

With `--samples N` a reply tells, for each of its actions, how far N chunks drawn for the same observation lie apart
(the mean over action dimensions of the normalised standard deviation). What counts is the part of the chunk that
will be executed before the next one is due: further ahead they always part.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from clients.safety import Fault
from clients.safety_limits import Response

# Default of --uncertainty-threshold.
UNCERTAINTY_THRESHOLD = 0.3

OnUncertain = Literal["slow", "hold", "ask"]
# What the safety layer does for each; while nobody has answered, asking is holding.
RESPONSE: dict[OnUncertain, Response] = {"slow": "slow", "hold": "hold", "ask": "hold"}


def chunk_uncertainty(uncertainty: np.ndarray | None, first: int, execute: int) -> float | None:
    """One figure for a chunk.

    Args:
        uncertainty: float32 [H] of the reply, or None.
        first: the first of its actions that is still to be executed and that it decided itself; samples cannot
            differ in the committed ones.
        execute: actions that will be executed before the next one is due.
    """
    if uncertainty is None or first >= len(uncertainty):
        return None
    value = float(np.mean(uncertainty[first : first + execute]))
    # Samples that cannot be compared agree on nothing.
    return value if np.isfinite(value) else float("inf")


class UncertaintyGate:
    """Judges the chunk that is executed. One question at each onset; its answer holds until the onset is over.

    Args:
        on_uncertain: None only measures.
        threshold: chunks above it are uncertain.
    """

    def __init__(self, on_uncertain: OnUncertain | None, threshold: float) -> None:
        self._on = on_uncertain
        self._threshold = threshold
        self.question: str | None = None  # for the operator, until `answer`
        self._allowed = False
        self.refused = False  # the operator wants the episode to end

    def look(self, uncertainty: float | None) -> Fault | None:
        """Of the chunk behind the next action, once a control period."""
        if self._on is None or uncertainty is None or uncertainty <= self._threshold:
            self._allowed, self.question = False, None
            return None
        why = f"the policy's samples differ by {uncertainty:.3g}, more than {self._threshold:g}"
        if self._on == "ask":
            if self._allowed:
                return None
            if self.question is None and not self.refused:
                self.question = f"{why}; go on?"
        return Fault(why)

    def answer(self, go_on: bool) -> None:
        """The operator has decided; may come from another thread."""
        if self.question is None:
            return
        self._allowed, self.refused = go_on, not go_on
        self.question = None
