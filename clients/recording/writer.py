"""Frames into journals: one file for each stretch of an episode without a gap."""

from __future__ import annotations

from pathlib import Path

from clients.recording.journal import JournalWriter
from clients.recording.messages import Ending, Frame, RecordingCounts

# A longer stretch is cut in two: finishing holds one in memory.
MAX_PART_BYTES = 512 * 2**20


class PartWriter:
    """Used by one thread. Methods raise OSError as the disk does.

    Args:
        directory: where the journals go.
        counts: of what is on disk.
    """

    def __init__(self, directory: Path, counts: RecordingCounts) -> None:
        self._directory, self._counts = directory, counts
        self._journal: JournalWriter | None = None
        self._number, self._part, self._next_period = -1, 0, 0

    def add(self, frame: Frame) -> None:
        """Append a frame, to a new journal where it does not follow the one before."""
        episode, period = frame.episode, frame.frame.period
        if episode.number != self._number:
            self._number, self._part = episode.number, 0
            self._close()
        elif period != self._next_period or (self._journal and self._journal.bytes > MAX_PART_BYTES):
            self._part += 1
            self._close()
        if self._journal is None:
            self._journal = self._open(frame)
        self._journal.add(frame.frame)
        self._next_period = period + episode.every
        self._counts.frames += 1

    def end(self, ending: Ending) -> None:
        """The episode is over."""
        if self._journal is not None:
            self._journal.end(ending.how)
        self._close()

    def close(self) -> None:
        self._close()

    def _open(self, frame: Frame) -> JournalWriter:
        episode = frame.episode
        facts = episode.facts(frame.sizes)
        extra = {**episode.extra, "part": self._part, "first_period": frame.frame.period}
        about = {"facts": facts.to_info(), "instruction": episode.instruction, "extra": extra}
        self._counts.parts += 1
        return JournalWriter(self._directory / f"{episode.number:06d}-{self._part:03d}.journal", about)

    def _close(self) -> None:
        if self._journal is not None:
            self._journal.close()
        self._journal = None
