"""Arrays come out of pickles of every protocol as they went in; whatever would run, or is no number, is refused."""

from __future__ import annotations

import collections
import contextlib
import datetime
import io
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.importing.array_pickle import PickleRefused, read_array_pickle

RNG = np.random.default_rng(0)
TRAJECTORIES = {
    "actions": RNG.normal(size=(3, 20, 4)).astype(np.float32),
    "state": RNG.normal(size=(3, 20, 39)),
    "features": np.asfortranarray(RNG.normal(size=(3, 5))),
    "steps": np.arange(6, dtype=">i4").reshape(2, 3),
    "done": np.array([True, False]),
}


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_come_back_as_they_were(protocol: int) -> None:
    back = read_array_pickle(pickle.dumps(TRAJECTORIES, protocol))
    assert back.keys() == TRAJECTORIES.keys()
    for name, array in TRAJECTORIES.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == array.dtype


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_plain_containers_come_back_as_they_were(protocol: int) -> None:
    values: dict[str, Any] = {
        "lists": [[0.5, -1.0], [2, 3**40, -7]],
        "texts": ("a", "ü", b"\x00\xff"),
        "nothing": [None, True, False, (), [], {}, (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
        "numbers": [np.float32(0.25), np.int64(-3)],
    }
    assert read_array_pickle(pickle.dumps(values, protocol)) == values


def test_an_array_that_stands_in_a_pickle_twice_is_read_twice() -> None:
    array = np.arange(4.0)
    first, second = read_array_pickle(pickle.dumps([array, array]))
    np.testing.assert_array_equal(first, array)
    np.testing.assert_array_equal(second, array)


class Calls:
    """Calls a function when it is unpickled, or gives an object a state."""

    def __init__(self, *reduced: Any) -> None:
        self._reduced = reduced

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reduced


class Plain:
    """An object of a class of its own."""

    def __init__(self) -> None:
        self.x = 1


class Persistent(pickle.Pickler):
    """Refers to everything by a persistent id."""

    def persistent_id(self, obj: Any) -> Any:
        return "elsewhere" if obj == [1] else None


def persistent() -> bytes:
    out = io.BytesIO()
    Persistent(out).dump([[1]])
    return out.getvalue()


def malicious(trace: Path) -> dict[str, bytes]:
    """Pickles that make a directory when Python unpickles them, each in its own way."""
    make = (os.makedirs, (str(trace),))
    told = struct.pack("<I", len(str(trace))) + str(trace).encode()
    return {
        "reduce": pickle.dumps(Calls(*make)),
        "reduce, protocol 0": pickle.dumps(Calls(*make), 0),
        "inside a dict": pickle.dumps({"actions": np.zeros(2), "state": Calls(*make)}),
        "in an array of objects": pickle.dumps(np.array([Calls(*make), None], dtype=object)),
        "inst": b"(S'%s'\nios\nmakedirs\n." % str(trace).encode(),
        "obj": b"(cos\nmakedirs\nX%so." % told,
        "eval": pickle.dumps(Calls(eval, (f"__import__('os').makedirs({str(trace)!r})",))),
        "partial": b"cfunctools\npartial\n(cos\nmakedirs\nX%stR)R." % told,
    }


KINDS = sorted(malicious(Path("x")))
MISUSES = {
    "a class made without its constructor": b"\x80\x02cos\nPathLike\n)\x81.",
    "attribute of an admitted module": b"\x80\x04\x8c\x05numpy\x8c\x0cndarray.dump\x93.",
    "another type than ndarray": b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\ndtype\n(K\x00tC\x01btR.",
    "a list with a state": b"]}b.",
    "an array without contents": b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btRq\x00h\x00.",
    "an extension code": b"\x80\x02\x82\x01.",
}


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_that_a_pickle_names_is_called(kind: str, tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    data = malicious(trace)[kind]
    with contextlib.suppress(TypeError):
        pickle.Unpickler(io.BytesIO(data)).load()
    trace.rmdir()  # Python's own unpickler made it
    with pytest.raises(PickleRefused):
        read_array_pickle(data)
    assert not trace.exists()


@pytest.mark.parametrize("kind", sorted(MISUSES))
def test_what_arrays_never_do_is_refused(kind: str) -> None:
    with pytest.raises(PickleRefused):
        read_array_pickle(MISUSES[kind])


@pytest.mark.parametrize(
    "value",
    [
        np.array([{"a": 1}, None], dtype=object),
        np.array(["text"]),
        np.array([b"text"]),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.array(["2020-01-01"], dtype="M8[D]"),
        np.array([1j]),
        Plain(),
        Plain,
        len,
        {1, 2},
        frozenset({1}),
        bytearray(b"x"),
        datetime.date(2020, 1, 1),
        collections.OrderedDict(a=1),
        np.random.default_rng(0),
        np.ma.masked_array([1, 2], [True, False]),
    ],
    ids=lambda value: type(value).__name__ + (f" {value.dtype}" if isinstance(value, np.ndarray) else ""),
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_what_is_no_number_is_refused(value: Any, protocol: int) -> None:
    with pytest.raises(PickleRefused):
        read_array_pickle(pickle.dumps({"state": value}, protocol))


def test_references_out_of_the_pickle_are_refused() -> None:
    with pytest.raises(PickleRefused):
        read_array_pickle(persistent())
    buffers: list[pickle.PickleBuffer] = []
    outside = pickle.dumps(np.zeros(3), 5, buffer_callback=buffers.append)
    assert buffers
    with pytest.raises(PickleRefused):
        read_array_pickle(outside)


def test_bombs_are_refused() -> None:
    laughs: list[Any] = ["ha"]
    for _ in range(40):
        laughs = [laughs, laughs]
    endless: list[Any] = []
    endless.append(endless)
    # An array of 2**40 numbers in 8 bytes, and a memo of four billion entries.
    huge = pickle.dumps(np.zeros(1), 2).replace(b"K\x01\x85", b"\x8a\x06\x00\x00\x00\x00\x00\x01\x85", 2)
    for data in (pickle.dumps(laughs), pickle.dumps(endless), huge):
        with pytest.raises(PickleRefused):
            read_array_pickle(data)
    assert read_array_pickle(b"\x80\x02]r\xff\xff\xff\xff.") == []


def test_a_pickle_that_was_cut_off_is_refused_in_one_line() -> None:
    data = pickle.dumps(TRAJECTORIES)
    for end in (0, 1, 7, len(data) // 2, len(data) - 1):
        with pytest.raises(PickleRefused) as caught:
            read_array_pickle(data[:end])
        assert "\n" not in str(caught.value)


@given(data=st.binary(max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(PickleRefused):
        read_array_pickle(data)


@given(place=st.integers(0, 10_000), value=st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_any_changed_byte_is_read_or_refused(place: int, value: int) -> None:
    data = bytearray(pickle.dumps({"actions": np.zeros((2, 3)), "state": [[1.0, 2.0]]}))
    data[place % len(data)] = value
    with contextlib.suppress(PickleRefused):
        read_array_pickle(bytes(data))
