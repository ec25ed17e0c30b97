"""A journal gives back every whole record, wherever its writer was killed and whatever lies behind the cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clients.recording.journal import JournalFrame, JournalWriter, read_ending, read_journal
from policy.errors import UsageError


def frame(number: int) -> JournalFrame:
    return JournalFrame(
        period=4 * number,
        images={"left": b"l%d" % number, "right": bytes(number)},
        state=np.float32([number, -1.5]),
        commands=np.full((4, 3), number, np.float32),
        held=np.arange(4) < number,
        sensors={"force": np.full((number, 2), 0.5, np.float16)},
    )


def written(path: Path, frames: int, ending: dict[str, object] | None = None) -> Path:
    with JournalWriter(path, {"task": "go"}) as journal:
        for number in range(frames):
            journal.add(frame(number))
        if ending is not None:
            journal.end(ending)
    return path


def assert_frames(found: list[JournalFrame], count: int) -> None:
    assert len(found) == count
    for number, one in enumerate(found):
        wanted = frame(number)
        assert (one.period, one.images) == (wanted.period, wanted.images)
        for part in ("state", "commands", "held"):
            np.testing.assert_array_equal(getattr(one, part), getattr(wanted, part))
        np.testing.assert_array_equal(one.sensors["force"], wanted.sensors["force"])


def test_what_was_written_is_read_back(tmp_path):
    path = written(tmp_path / "j", 5, {"success": True})
    journal = read_journal(path)
    assert (journal.about, read_ending(path)) == ({"task": "go"}, {"success": True})
    assert_frames(journal.frames, 5)


def test_a_journal_cut_anywhere_gives_back_all_records_before_the_cut(tmp_path):
    whole = written(tmp_path / "j", 4).read_bytes()
    ends = [written(tmp_path / f"j{n}", n).stat().st_size for n in range(5)]  # where record n + 1 begins
    cut = tmp_path / "cut"
    near_an_end = {end + offset for end in ends for offset in range(-9, 9)}
    for length in sorted(near_an_end | set(range(ends[0], len(whole), 17))):
        if not ends[0] <= length < len(whole):
            continue
        cut.write_bytes(whole[:length])
        journal = read_journal(cut)
        assert read_ending(cut) is None
        assert_frames(journal.frames, sum(length >= end for end in ends[1:]))


def test_what_a_power_cut_leaves_behind_is_told_from_a_record(tmp_path):
    """A file may have grown by blocks that were never written."""
    path = written(tmp_path / "j", 3)
    with open(path, "ab") as file:
        file.write(bytes(4096))
    assert_frames(read_journal(path).frames, 3)
    damaged = bytearray(path.read_bytes())
    damaged[written(tmp_path / "shorter", 2).stat().st_size - 1] ^= 0xFF
    path.write_bytes(damaged)
    assert_frames(read_journal(path).frames, 1)


@pytest.mark.parametrize(
    "content", [b"", b"\x01", b"no journal at all, but long enough for a head", bytes(64)]
)
def test_what_is_no_journal_is_one_line(tmp_path, content):
    path = tmp_path / "j"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="no journal"):
        read_journal(path)


def test_a_journal_is_never_written_over(tmp_path):
    path = written(tmp_path / "j", 1)
    with pytest.raises(FileExistsError):
        JournalWriter(path, {})
    assert_frames(read_journal(path).frames, 1)
