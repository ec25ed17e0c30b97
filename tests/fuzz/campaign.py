"""One fuzz campaign: so many mutated messages over the doors of a running server, a thread a door."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.corpus import DOORS, FOLDER, load
from tests.fuzz.doors import Address, Answer, Unanswered, open_door
from tests.fuzz.mutate import mutate

# Shares of the messages: more where an answer is cheap, as each costs the two processes about the same time then.
_WEIGHTS = {
    "http-json": 12,
    "http-msgpack": 12,
    "http-multipart": 8,
    "openvla": 8,
    "zmq": 25,
    "openpi": 10,
    "groot": 20,
    "raw-http": 3,
    "raw-zmtp": 2,
}
_AT_ONCE = 16  # messages brought to a door before their answers are looked at


@dataclass
class DoorReport:
    """What became of one door's messages."""

    door: str
    codes: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def sent(self) -> int:
        """Messages that were answered, or that no answer was owed for."""
        return self.codes.total()


def run(
    address: Address, messages: int, seed: int, doors: tuple[str, ...] = DOORS, keep: Path = FOLDER
) -> list[DoorReport]:
    """Send and judge.

    Args:
        address: of the server under test, which serves a null policy of one camera.
        messages: over all doors together.
        seed: same seed, same messages.
        doors: which.
        keep: where messages that found something are left, in a folder a door.
    """
    total = sum(_WEIGHTS[door] for door in doors)
    reports = [DoorReport(door) for door in doors]
    threads = [
        threading.Thread(
            target=_fuzz, args=(address, report, -(-messages * _WEIGHTS[report.door] // total), seed, keep)
        )
        for report in reports
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return reports


def message(door: str, seeds: list[bytes], seed: int, number: int) -> bytes:
    """The campaign's message of this number."""
    return mutate(door, seeds, random.Random(f"{seed}/{door}/{number}"))


def _fuzz(address: Address, report: DoorReport, count: int, seed: int, keep: Path) -> None:
    door, began = report.door, time.monotonic()
    seeds, sender = load(door), open_door(door, address)
    number = 0
    while number < count and len(report.findings) < 20:
        batch = [message(door, seeds, seed, i) for i in range(number, min(count, number + _AT_ONCE))]
        number += len(batch)
        try:
            _judge(report, batch, sender.exchange(batch), keep)
        except Unanswered as error:
            for one in batch:
                _keep(keep, door, one)
            report.findings.append(
                f"no answer to one of messages {number - len(batch)} ... {number - 1}: {error}"
            )
            sender.close()
            sender = open_door(door, address)
        except Exception as error:
            report.findings.append(f"messages up to {number - 1} could not be judged: {error!r}")
            break
    sender.close()
    report.seconds = time.monotonic() - began


def _judge(report: DoorReport, batch: list[bytes], answers: list[Answer], keep: Path) -> None:
    report.codes.update(answer.code for answer in answers)
    for i, answer in enumerate(answers):
        if answer.trouble is not None:
            report.findings.append(answer.trouble)
            # A pipelined door's answers come in any order, so all of the batch is kept there.
            for one in batch if report.door in ("zmq", "groot") else batch[i : i + 1]:
                _keep(keep, report.door, one)


def _keep(folder: Path, door: str, message: bytes) -> None:
    (folder / door).mkdir(parents=True, exist_ok=True)
    (folder / door / f"found-{hashlib.sha256(message).hexdigest()[:16]}").write_bytes(message)
