"""A small campaign of a fixed seed: the server lives, tells no traceback, and a healthy robot is served beside it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from policy.null import NullPolicy, null_spec
from service.running import RunningServer
from tests.fuzz import campaign
from tests.fuzz.corpus import DOORS, good_messages, load
from tests.fuzz.doors import Address, Answer, open_door
from tests.fuzz.mutate import mutate
from tests.fuzz.run import FuzzArgs, fuzz


@pytest.mark.slow
def test_a_small_campaign_finds_nothing(tmp_path: Path) -> None:
    # The deadline is a robot's in the figures, on a quiet machine; here it only tells served from not served.
    args = FuzzArgs(messages=4000, seed=1, deadline_ms=20_000.0, rate_hz=5.0, out=tmp_path)
    assert fuzz(args, keep=tmp_path) == []
    assert list(tmp_path.rglob("found-*")) == []


@pytest.fixture(scope="module")
def address() -> object:
    with RunningServer(lambda: NullPolicy(null_spec()), groot_port=0) as server:
        assert server.groot_url is not None
        yield Address(http=server.http_url, zmq=server.zmq_url, groot=server.groot_url)


@pytest.mark.parametrize("door", DOORS)
def test_everything_kept_is_answered_without_trouble(address: Address, door: str) -> None:
    sender = open_door(door, address)
    for message in load(door):
        assert [answer.trouble for answer in sender.exchange([message])] == [None]
    sender.close()


@pytest.mark.parametrize("door", [door for door in DOORS if not door.startswith("raw")])
def test_the_good_messages_are_served_so_that_mutations_start_from_deep_inside(
    address: Address, door: str
) -> None:
    sender = open_door(door, address)
    codes = {name: sender.exchange([message])[0].code for name, message in good_messages()[door].items()}
    sender.close()
    assert codes.pop("kill", "forbidden") == "forbidden"
    assert set(codes.values()) == {"ok"}, codes


def test_the_kept_good_messages_are_what_the_clients_send_today() -> None:
    for door, messages in good_messages().items():
        kept = set(load(door))
        assert set(messages.values()) <= kept, f"{door}: run python -m tests.fuzz.corpus"


def test_a_message_is_found_again_by_its_number() -> None:
    seeds = load("zmq")
    first = [campaign.message("zmq", seeds, 3, number) for number in range(50)]
    assert first == [campaign.message("zmq", seeds, 3, number) for number in range(50)]
    assert len(set(first)) > 40


@pytest.mark.parametrize("door", DOORS)
def test_mutations_differ_from_their_seeds_and_stay_within_bounds(door: str) -> None:
    seeds = load(door)
    made = [mutate(door, seeds, random.Random(number)) for number in range(300)]
    assert sum(message not in seeds for message in made) > 200
    assert max(map(len, made)) <= 2**21


def test_a_traceback_and_an_unforeseen_error_are_findings() -> None:
    assert Answer("malformed", b'Traceback (most recent call last):\n  File "x.py"').trouble
    assert Answer("malformed", b'File "/srv/service/app.py", line 3').trouble
    assert Answer("internal", b"{}").trouble
    assert Answer("500", b"oops").trouble
    assert Answer("malformed", b'{"code": "malformed"}').trouble is None
