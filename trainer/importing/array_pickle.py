"""Reads pickles of NumPy arrays and plain containers as data: nothing in them is ever imported or called.

Python's own unpickler runs whatever a pickle names. Here `pickletools`, which only parses, lists the opcodes, and a
stack machine of the few that arrays and containers need builds the values. Where a pickle would call something, only
the five names below are known, and they are ours: everything else is refused.
"""

from __future__ import annotations

import pickletools
import re
from dataclasses import dataclass
from typing import Any

import numpy as np


class PickleRefused(ValueError):
    """The pickle is damaged, or holds more than numbers, texts, arrays and plain containers."""


@dataclass(frozen=True)
class _Name:
    """A global that an array's pickle refers to; never resolved to anything."""

    known_as: str


# Module paths are those of NumPy before and since 2.0, and what Python 3 writes into old protocols.
_NAMES: dict[str, _Name] = {
    "numpy ndarray": _Name("ndarray"),
    "numpy dtype": _Name("dtype"),
    "_codecs encode": _Name("encode"),
    **{
        f"numpy.{core}.{name}": _Name(known_as)
        for core in ("core", "_core")
        for name, known_as in (
            ("multiarray _reconstruct", "reconstruct"),
            ("multiarray scalar", "scalar"),
            ("numeric _frombuffer", "frombuffer"),
        )
    },
}
# bool, signed, unsigned and floating numbers; no objects, texts, times or records.
_NUMBER = re.compile(r"b1|[iu][1248]|f[248]")
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
# Opcodes that stand for the value they carry.
_VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(eq=False)
class _DType:
    """A number's type while its byte order is still to come."""

    code: str  # such as "f8"
    order: str = "<"

    def numpy(self) -> np.dtype:
        return np.dtype(self.order + self.code)


@dataclass(eq=False)
class _Array:
    """An array whose contents are still to come."""

    array: np.ndarray | None = None


def read_array_pickle(data: bytes) -> Any:
    """What a pickle holds: dict, list, tuple, str, bytes, numbers, None and numeric arrays.

    Raises:
        PickleRefused: it holds anything else, or is damaged.
    """
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "STOP":
                return machine.pop()
            machine.step(opcode.name, argument)
    except PickleRefused:
        raise
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise PickleRefused(f"damaged pickle ({str(error) or type(error).__name__})") from None
    raise PickleRefused("damaged pickle (no end)")


class _Machine:
    """The values under construction; a mark begins a stack of its own."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def pop(self) -> Any:
        return self._stack.pop()

    def _since_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._below.pop()
        return items

    def step(self, name: str, argument: Any) -> None:
        """Carry out one opcode."""
        stack = self._stack
        if name in _VALUES:
            stack.append(bytes(argument) if isinstance(argument, bytearray) else argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _TUPLES:
            count = _TUPLES[name]
            items = tuple(stack[len(stack) - count :]) if len(stack) >= count else _too_few()
            del stack[len(stack) - count :]
            stack.append(items)
        else:
            match name:
                case "PROTO" | "FRAME":
                    pass
                case "MARK":
                    self._below.append(stack)
                    self._stack = []
                case "POP":
                    stack.pop()
                case "POP_MARK":
                    self._since_mark()
                case "EMPTY_LIST":
                    stack.append([])
                case "EMPTY_DICT":
                    stack.append({})
                case "LIST" | "TUPLE" | "DICT" | "APPENDS" | "SETITEMS":
                    self._gather(name, self._since_mark())
                case "APPEND":
                    self._gather("APPENDS", [stack.pop()])
                case "SETITEM":
                    value, key = stack.pop(), stack.pop()
                    self._gather("SETITEMS", [key, value])
                case "MEMOIZE":
                    self._memo[len(self._memo)] = stack[-1]
                case "PUT" | "BINPUT" | "LONG_BINPUT":
                    self._memo[argument] = stack[-1]
                case "GET" | "BINGET" | "LONG_BINGET":
                    stack.append(_again(self._memo[argument]))
                case "GLOBAL":
                    stack.append(_known(argument))
                case "STACK_GLOBAL":
                    attribute, module = stack.pop(), stack.pop()
                    stack.append(_known(f"{module} {attribute}"))
                case "REDUCE":
                    arguments, called = stack.pop(), stack.pop()
                    stack.append(_call(called, arguments))
                case "BUILD":
                    state = stack.pop()
                    stack[-1] = _build(stack[-1], state)
                case _:
                    raise PickleRefused(f"{name} is not needed for arrays; refused")

    def _gather(self, name: str, items: list[Any]) -> None:
        stack = self._stack
        if name == "LIST":
            stack.append(items)
        elif name == "TUPLE":
            stack.append(tuple(items))
        elif name == "DICT":
            stack.append(dict(zip(items[::2], items[1::2], strict=True)))
        elif name == "APPENDS" and isinstance(stack[-1], list):
            stack[-1].extend(items)
        elif name == "SETITEMS" and isinstance(stack[-1], dict):
            stack[-1].update(zip(items[::2], items[1::2], strict=True))
        else:
            raise PickleRefused(f"{name} on a {type(stack[-1]).__name__}")


def _too_few() -> Any:
    raise PickleRefused("damaged pickle (a tuple of more values than there are)")


def _known(name: str) -> _Name:
    if name not in _NAMES:
        raise PickleRefused(
            f"it names {name.replace(' ', '.')!r}, which is neither an array nor a number; refused"
        )
    return _NAMES[name]


def _again(value: Any) -> Any:
    """A memoised value; containers are refused, since one inside itself or inside many others has no end."""
    if isinstance(value, list | dict | tuple):
        raise PickleRefused("the same container stands in it twice; refused")
    return _whole(value) if isinstance(value, _Array) else value


def _whole(value: _Array) -> np.ndarray:
    if value.array is None:
        raise PickleRefused("an array without contents")
    return value.array


def _call(called: Any, arguments: Any) -> Any:
    """What NumPy's own functions would make of these arguments, for numbers only."""
    match called, arguments:
        case _Name("dtype"), (str(code), *_):
            if not _NUMBER.fullmatch(code):
                raise PickleRefused(f"an array of type {code!r}; only numbers are read")
            return _DType(code)
        case _Name("reconstruct"), (_Name("ndarray"), tuple(), bytes()):
            return _Array()
        case _Name("scalar"), (_DType() as dtype, bytes(data)):
            return _numbers(data, (), dtype).item()
        case _Name("frombuffer"), (bytes(data), _DType() as dtype, tuple(shape), str(order)):
            return _numbers(data, shape, dtype, fortran=order == "F")
        case _Name("encode"), (str(text), "latin1"):
            return text.encode("latin1")
    raise PickleRefused("a call that makes no array; refused")


def _build(target: Any, state: Any) -> Any:
    """Give a type its byte order, an array its contents."""
    match target, state:
        case _DType(), (_, str(order), None, None, None, *_) if order in "<>|=":
            target.order = order
            return target
        case _Array(), (_, tuple(shape), _DType() as dtype, bool() | int() as fortran, bytes(data)):
            target.array = _numbers(data, shape, dtype, fortran=bool(fortran))
            return target.array
    raise PickleRefused("a state that is not an array's; refused")


def _numbers(data: bytes, shape: tuple[Any, ...], dtype: _DType, *, fortran: bool = False) -> np.ndarray:
    """The array; its size is that of the bytes that are there, whatever the pickle says."""
    if not all(isinstance(length, int) and length >= 0 for length in shape):
        raise PickleRefused(f"an array of shape {shape}")
    return np.frombuffer(data, dtype.numpy()).reshape(shape, order="F" if fortran else "C")
