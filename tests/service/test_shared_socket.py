"""One socket, one reader, several who answer: no message is overlooked, none comes in pieces, closing is safe."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import zmq

from service.shared_socket import SharedSocket

PATIENCE_S = 20.0


@pytest.fixture
def context() -> Iterator[zmq.Context]:
    made = zmq.Context()
    yield made
    made.destroy(linger=0)


@pytest.fixture
def shared(context: zmq.Context) -> Iterator[SharedSocket]:
    bare = context.socket(zmq.ROUTER)
    bare.bind("inproc://door")
    made = SharedSocket(bare)
    yield made
    made.close(linger_ms=0)


def robot(context: zmq.Context, name: bytes) -> zmq.Socket:
    made = context.socket(zmq.DEALER)
    made.setsockopt(zmq.IDENTITY, name)
    made.setsockopt(zmq.RCVTIMEO, round(PATIENCE_S * 1e3))
    made.connect("inproc://door")
    return made


def test_no_message_is_overlooked_while_others_send(context: zmq.Context, shared: SharedSocket) -> None:
    """A robot asks only once it was answered: if the reader slept through one message, no other would wake it."""
    asking, told = robot(context, b"asking"), robot(context, b"told")
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            shared.wait(None)
            while (frames := shared.receive()) is not None:
                if len(frames) == 2:
                    shared.send([frame.bytes for frame in frames])

    def tell() -> None:
        while not over.is_set():
            shared.send([b"told", b"news"])
            time.sleep(0)

    told.send_multipart([b"here", b"I", b"am"])
    threads = [threading.Thread(target=body) for body in (read, tell, tell)]
    for thread in threads:
        thread.start()
    try:
        for number in range(2000):
            asking.send(b"%d" % number)
            assert asking.recv() == b"%d" % number
    finally:
        over.set()
        shared.wake()
        for thread in threads:
            thread.join()


def test_messages_of_several_threads_do_not_mix(context: zmq.Context, shared: SharedSocket) -> None:
    told = robot(context, b"told")
    told.send(b"here I am")
    shared.wait(PATIENCE_S)
    assert [frame.bytes for frame in shared.receive() or []] == [b"told", b"here I am"]

    def tell(word: bytes) -> None:
        for _ in range(50):
            shared.send([b"told", word, word, word])

    threads = [threading.Thread(target=tell, args=(word,)) for word in (b"one", b"two", b"three")]
    for thread in threads:
        thread.start()
    heard = [told.recv_multipart() for _ in range(150)]
    for thread in threads:
        thread.join()
    assert all(len(message) == 3 and len(set(message)) == 1 for message in heard)
    assert sorted(message[0] for message in heard) == [b"one"] * 50 + [b"three"] * 50 + [b"two"] * 50


def test_who_waits_can_be_woken_and_does_not_wait_longer_than_asked(shared: SharedSocket) -> None:
    waiting = threading.Thread(target=shared.wait, args=(None,))
    waiting.start()
    shared.wake()
    waiting.join(PATIENCE_S)
    assert not waiting.is_alive()
    began = time.monotonic()
    shared.wait(0.02)
    assert 0.02 <= time.monotonic() - began < PATIENCE_S


def test_what_comes_after_the_end_is_dropped(context: zmq.Context) -> None:
    bare = context.socket(zmq.ROUTER)
    bare.bind("inproc://other")
    shared = SharedSocket(bare)
    for _ in range(10_000):  # more than the bell holds
        shared.wake()
    shared.close(linger_ms=0)
    shared.send([b"told", b"news"])
    shared.wake()
    assert bare.closed
