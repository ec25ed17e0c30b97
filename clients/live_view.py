"""Progress while the robot moves: a live panel in a terminal, a line now and then elsewhere."""

from __future__ import annotations

from collections import deque

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from clients.episode import Episode
from clients.live_figures import LiveFigures, look
from clients.receiver import EpisodeOutcome

# Seconds between progress lines where there is no terminal to redraw.
PLAIN_EVERY_S = 2.0
# Lines waiting to be printed; threads that must not block only append here.
MAX_LINES = 200
BAR = 30  # characters of the buffer's bar


class LiveView:
    """Where the receiver's log lines go, and its figures about ten times a second.

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

    def watch(self, episode: Episode, elapsed_s: float, recording: str | None = None) -> None:
        """Called about ten times a second while an episode runs.

        Args:
            episode: looked at, never changed.
            elapsed_s: since it began.
            recording: a few words about it; None where nothing is recorded.
        """
        self._flush()
        if self._live is not None:
            self._live.update(panel(self._title, elapsed_s, look(episode), recording))
        elif elapsed_s - self._told_at >= PLAIN_EVERY_S:
            self._told_at = elapsed_s
            self._console.print(line(self._title, elapsed_s, look(episode), recording), highlight=False)

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


def line(title: str, elapsed_s: float, figures: LiveFigures, recording: str | None) -> str:
    """All of it in one line, for logs."""
    parts = [f"{title}  {elapsed_s:5.1f} s  step {figures.step:4d}", f"planned {figures.planned:2d}"]
    parts.append(f"control {_hz(figures.control_hz)}, inference {_hz(figures.inference_hz)}")
    parts += [
        f"{name} {_ms(figures.latencies[name])}"
        for name in ("round trip", "jitter p99")
        if name in figures.latencies
    ]
    parts.append(f"safety {', '.join(figures.active) or 'ok'}")
    if recording is not None:
        parts.append(f"recording {recording}")
    return "  ".join(parts)


def panel(title: str, elapsed_s: float, figures: LiveFigures, recording: str | None) -> Group:
    """A few lines that keep their places, for terminals."""
    rows = Table.grid(padding=(0, 2))
    rows.add_row("rates", f"control {_hz(figures.control_hz)}   inference {_hz(figures.inference_hz)}")
    rows.add_row("latency", "   ".join(f"{name} {_ms(ms)}" for name, ms in figures.latencies.items()))
    full = round(BAR * min(1.0, figures.planned / figures.horizon))
    bar = Text("█" * full, style="green" if full else "red") + Text("░" * (BAR - full), style="dim")
    rows.add_row("buffer", bar + Text(f"  {figures.planned} of {figures.horizon} actions planned ahead"))
    rows.add_row("requests", ", ".join(f"{count} {name}" for name, count in figures.requests.items()))
    safety = Text(", ".join(figures.active) or "ok", style="bold red" if figures.active else "green")
    if figures.onsets:
        safety += Text(
            "   so far " + ", ".join(f"{n} x {cause}" for cause, n in figures.onsets.items()), "dim"
        )
    rows.add_row("safety", safety)
    if recording is not None:
        rows.add_row("recording", recording)
    return Group(Text(f"{title}   {elapsed_s:.1f} s   step {figures.step}", style="bold"), rows)


def _hz(rate: float | None) -> str:
    return "– Hz" if rate is None else f"{rate:.1f} Hz"


def _ms(value: float) -> str:
    return f"{value:.0f} ms" if value >= 10 else f"{value:.2f} ms"
