"""Mutations of messages: bytes as a fuzzer of files does them, and trees of JSON and MessagePack by their structure.

Everything is drawn from the generator that is given, so a message is found again by seed, door and number.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from typing import Any

import msgpack

from tests.fuzz.corpus import join_frames, split_frames

MAX_BYTES = 2**21  # of a mutated message; larger ones test the network more than the doors
_STRUCTURAL = 0.5  # share of messages whose tree is mutated rather than their bytes
_BYTES = (0x00, 0x01, 0x7F, 0x80, 0xC1, 0xC4, 0xC6, 0xD9, 0xDD, 0xDF, 0xFF, *b'"{}[],:\\\r\n-')
_INTEGERS = (
    0,
    1,
    -1,
    127,
    255,
    2**15,
    2**16 - 1,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63 - 1,
    -(2**63),
    2**64 - 1,
)
_TEXTS = ("", "\0", "\ud800", "é" * 50, "a" * 5000, "../../etc/passwd", "|O", "<f4", "<U9", "null", "NaN")
_NUMBERS = (float("nan"), float("inf"), -float("inf"), 1e308, 1e-308, 0.1, -0.0)
_PICKLE = b"cos\nsystem\n(S'true'\ntR."


def mutate(door: str, seeds: list[bytes], generator: random.Random) -> bytes:
    """One message that is somewhat like one of the seeds."""
    seed = generator.choice(seeds)
    if generator.random() < _STRUCTURAL:
        changed = _structural(door, seed, generator)
        if changed is not None:
            return changed[:MAX_BYTES]
    return _bytes(seed, seeds, generator)[:MAX_BYTES]


def _structural(door: str, seed: bytes, generator: random.Random) -> bytes | None:
    try:
        if door in ("http-json", "openvla"):
            return json.dumps(_tree(json.loads(seed), generator, _json_value)).encode(
                "utf-8", "surrogatepass"
            )
        if door in ("http-msgpack", "openpi", "groot"):
            return _pack(_tree(msgpack.unpackb(seed), generator, _msgpack_value))
        if door == "zmq":
            return _frames(split_frames(seed), generator)
    # A kept finding may be no JSON or MessagePack, and a mutated tree may be none that can be written.
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException):
        return None
    return None


def _frames(frames: list[bytes], generator: random.Random) -> bytes:
    match generator.randrange(4):
        case 0:
            frames[0] = _pack(_tree(msgpack.unpackb(frames[0]), generator, _msgpack_value))
        case 1:
            i = generator.randrange(len(frames))
            frames[i] = _bytes(frames[i], frames, generator)
        case 2:
            frames.insert(generator.randrange(len(frames) + 1), generator.choice([b"", b"\0" * 64, *frames]))
        case _:
            generator.shuffle(frames)
    return join_frames(frames)


def _pack(value: Any) -> bytes:
    return msgpack.packb(value, unicode_errors="surrogatepass")


def _tree(tree: Any, generator: random.Random, value: Callable[[random.Random], Any]) -> Any:
    edits = _Edits(generator, value)
    for _ in range(generator.choice((1, 1, 1, 2, 3, 6))):
        tree = edits.edit(tree, depth=0)
    return tree


class _Edits:
    """The changes to one tree: each walks down at random and changes what is there."""

    def __init__(self, generator: random.Random, value: Callable[[random.Random], Any]) -> None:
        self._generator, self._value = generator, value
        self._may_repeat = True  # once: three times a thousand is a billion

    def edit(self, node: Any, depth: int) -> Any:
        generator = self._generator
        if isinstance(node, dict) and node and generator.random() < (0.8 if depth else 0.98):
            return self._edit_map(node, depth)
        if isinstance(node, list) and node and generator.random() < 0.7:
            return self._edit_list(node, depth)
        if isinstance(node, str | bytes) and node and generator.random() < 0.5:
            at = generator.randrange(len(node))
            return node[:at] + node[at + generator.randrange(1, 9) :]
        if isinstance(node, int | float) and not isinstance(node, bool) and generator.random() < 0.5:
            return node + generator.choice((-1, 1, 0.5, 2**31))
        return _nested(node, generator) if generator.random() < 0.1 else self._value(generator)

    def _edit_map(self, node: dict[Any, Any], depth: int) -> dict[Any, Any]:
        generator = self._generator
        key = generator.choice(list(node))
        match generator.randrange(8):
            case 0:
                return {k: v for k, v in node.items() if k != key}
            case 1:
                return {**node, _key(generator): node[key]}
            case 2:
                return {**node, key: node[generator.choice(list(node))]}
            case _:
                return {**node, key: self.edit(node[key], depth + 1)}

    def _edit_list(self, node: list[Any], depth: int) -> list[Any]:
        at = self._generator.randrange(len(node))
        match self._generator.randrange(5):
            case 0:
                return node[:at] + node[at + 1 :]
            case 1 if self._may_repeat:
                self._may_repeat = False
                return node * self._generator.choice((2, 10, 1000))
            case _:
                return [*node[:at], self.edit(node[at], depth + 1), *node[at + 1 :]]


def _nested(node: Any, generator: random.Random) -> Any:
    for _ in range(generator.choice((1, 3, 10, 100, 500))):
        node = [node] if generator.random() < 0.5 else {"a": node}
    return node


_NATIVE_KEYS = (
    "images",
    "image",
    "state",
    "full_image",
    "encoded",
    "session",
    "prefix",
    "samples",
    "token",
    "op",
    "v",
)
_PEER_KEYS = (
    "observation/image",
    "prompt",
    "video.ego_view",
    "data",
    "endpoint",
    "api_token",
    "options",
    "shape",
)


def _key(generator: random.Random) -> str:
    return generator.choice((*_NATIVE_KEYS, *_PEER_KEYS, *_TEXTS))


def _json_value(generator: random.Random) -> Any:
    return generator.choice(
        (None, True, False, [], {}, [[]], {"": None}, *_INTEGERS, *_TEXTS, *_NUMBERS, 10**30)
    )


def _msgpack_value(generator: random.Random) -> Any:
    blobs = (b"", b"\0" * 9, _PICKLE, b"\x93NUMPY\x01\0\x04\0{}\n\n", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
    odd = (msgpack.ExtType(1, b"x"), msgpack.Timestamp(1), *blobs)
    return generator.choice((None, True, False, [], {}, [[]], *_INTEGERS, *_TEXTS, *_NUMBERS, *odd))


def _bytes(seed: bytes, seeds: list[bytes], generator: random.Random) -> bytes:
    out = bytearray(seed)
    for _ in range(generator.choice((1, 1, 2, 4, 8))):
        _BYTE_EDITS[generator.randrange(len(_BYTE_EDITS))](out, seeds, generator)
    return bytes(out)


def _at(out: bytearray, generator: random.Random) -> int:
    # The first bytes hold what is parsed; the rest is mostly pixels.
    reach = len(out) if generator.random() < 0.5 else min(len(out), 200)
    return generator.randrange(reach + 1)


def _flip(out: bytearray, seeds: list[bytes], generator: random.Random) -> None:
    if out:
        out[_at(out, generator) % len(out)] ^= 1 << generator.randrange(8)


def _set(out: bytearray, seeds: list[bytes], generator: random.Random) -> None:
    if out:
        out[_at(out, generator) % len(out)] = generator.choice(_BYTES)


def _insert(out: bytearray, seeds: list[bytes], generator: random.Random) -> None:
    at = _at(out, generator)
    out[at:at] = generator.randbytes(generator.randrange(1, 9))


def _delete(out: bytearray, seeds: list[bytes], generator: random.Random) -> None:
    at = _at(out, generator)
    del out[at : at + generator.choice((1, 2, 8, 100))]


def _repeat(out: bytearray, seeds: list[bytes], generator: random.Random) -> None:
    at = _at(out, generator)
    out[at:at] = out[at : at + generator.randrange(1, 40)] * generator.choice((1, 2, 50, 2000))


def _integer(out: bytearray, seeds: list[bytes], generator: random.Random) -> None:
    at, value = _at(out, generator), generator.choice(_INTEGERS)
    form = generator.choice(("<H", ">H", "<I", ">I", "<Q", ">Q"))
    size = struct.calcsize(form)
    out[at : at + size] = struct.pack(form, value % 2 ** (8 * size))


def _splice(out: bytearray, seeds: list[bytes], generator: random.Random) -> None:
    other = generator.choice(seeds)
    out[_at(out, generator) :] = other[generator.randrange(len(other) + 1) :]


def _truncate(out: bytearray, seeds: list[bytes], generator: random.Random) -> None:
    del out[_at(out, generator) :]


_BYTE_EDITS = (_flip, _set, _insert, _delete, _repeat, _integer, _splice, _truncate)
