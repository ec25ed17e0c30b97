"""Progress while the robot moves: one live line in a terminal, a line now and then elsewhere."""

from __future__ import annotations

from collections import deque

from rich.console import Console
from rich.live import Live
from rich.text import Text

from clients.episode import Episode
from clients.receiver import EpisodeOutcome

# Seconds between progress lines where there is no terminal to redraw.
PLAIN_EVERY_S = 2.0
# Lines waiting to be printed; threads that must not block only append here.
MAX_LINES = 200


class LiveView:
    """A `Watcher` for the receiver, and the place where its log lines go.

    Args:
        console: where to print.
        plain: never redraw, even in a terminal.
    """

    def __init__(self, console: Console, *, plain: bool = False) -> None:
        self._console = console
        self._lines: deque[str] = deque(maxlen=MAX_LINES)
        self._live = (
            None if plain or not console.is_terminal else Live(console=console, refresh_per_second=10)
        )
        self._title = ""
        self._told_at = 0.0

    def __enter__(self) -> LiveView:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._flush()
        if self._live is not None:
            self._live.update(Text(""))
            self._live.stop()

    def log(self, line: str) -> None:
        """Take a line from any thread; it is printed at the next look."""
        self._lines.append(line)

    def begin(self, title: str) -> None:
        """An episode starts."""
        self._title, self._told_at = title, 0.0

    def watch(self, episode: Episode, elapsed_s: float) -> None:
        """Called about ten times a second while an episode runs."""
        self._flush()
        line = self._status(episode, elapsed_s)
        if self._live is not None:
            self._live.update(Text(line))
        elif elapsed_s - self._told_at >= PLAIN_EVERY_S:
            self._told_at = elapsed_s
            self._console.print(line, highlight=False)

    def end(self, outcome: EpisodeOutcome) -> None:
        """An episode is over."""
        self._flush()
        result = "interrupted" if outcome.interrupted else "success" if outcome.success else "no success"
        rate = f", {outcome.achieved_hz:.1f} Hz" if outcome.achieved_hz else ""
        seconds = outcome.ended_at - outcome.started_at
        self._console.print(
            f"{self._title}: {result} after {outcome.ticks} control periods ({seconds:.1f} s{rate})",
            highlight=False,
        )

    def _flush(self) -> None:
        while self._lines:
            self._console.print(f"  {self._lines.popleft()}", highlight=False, markup=False)

    def _status(self, episode: Episode, elapsed_s: float) -> str:
        trace = episode.trace
        round_trip = trace.stages["round_trip_ms"].summary()
        jitter = trace.stages["control_jitter_ms"].summary()
        active = [cause for cause, seen in episode.safety.interventions.items() if seen.active]
        parts = [
            f"{self._title}  {elapsed_s:5.1f} s  step {episode.step:4d}",
            f"planned {episode.remaining:2d}",
            f"chunks {trace.outcomes.get('accepted', 0)}",
        ]
        if round_trip:
            parts.append(f"round trip {round_trip['p50']:.0f} ms")
        if jitter:
            parts.append(f"jitter p99 {jitter['p99']:.2f} ms")
        parts.append(f"safety {', '.join(active) or 'ok'}")
        return "  ".join(parts)
