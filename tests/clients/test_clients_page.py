"""docs/clients.md: every piece of code on the page runs against a server, and says what it says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from policy.null import NullPolicy, null_spec
from service.running import RunningServer

PAGE = Path(__file__).resolve().parents[2] / "docs" / "clients.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
SAID = ("(48, 4) actions at 80.0 Hz from null@", "48 actions a chunk", "8 chunks")


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with RunningServer(lambda: NullPolicy(null_spec(cameras=("corner4", "corner")))) as running:
        yield running


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_the_code_of_the_page_does_what_it_says(server, capsys, number):
    code = BLOCKS[number].replace("http://127.0.0.1:8000", server.http_url)
    code = code.replace("tcp://127.0.0.1:5570", server.zmq_url)
    assert code != BLOCKS[number]
    exec(compile(code, f"{PAGE.name} block {number}", "exec"), {"__name__": "page"})
    assert SAID[number] in capsys.readouterr().out


def test_every_block_is_tried():
    assert len(BLOCKS) == len(SAID)
