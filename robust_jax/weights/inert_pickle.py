"""Pickles read as data: a pickle is a program that may call any function, and here nothing it names is called.

The instructions are those of :mod:`pickletools`, which lists them and runs none.
"""

from __future__ import annotations

import dataclasses
import pickletools
from collections.abc import Callable
from typing import IO, TypeVar

MARK = object()
Kind = TypeVar("Kind")


class Refused(ValueError):
    """A file asks for something that reading data does not need."""


@dataclasses.dataclass(frozen=True)
class Global:
    """The name of a function or class; never the thing itself."""

    name: str


@dataclasses.dataclass(frozen=True)
class Placeholder:
    """Stands for an object that was not made."""

    name: str


def build(
    file: IO[bytes],
    stand_in: Callable[[str, tuple[object, ...]], object],
    persistent: Callable[[object], object],
) -> object:
    """The value that the next pickle of ``file`` describes, of plain containers and what the two functions give.

    Sets are read as lists.

    Args:
        file: at the start of a pickle; left after its end.
        stand_in: ``(name of a function or class, arguments)`` to a value in place of the call; raises
            :class:`Refused` on a name it does not know.
        persistent: identifier of an object kept outside the pickle to a value in place of it.

    Raises:
        Refused: on any other call, named, and on instructions that need a registry or a buffer from outside.
        ValueError, TypeError, LookupError, AttributeError: if the pickle is damaged.
    """

    def call(function: object, arguments: object) -> object:
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise Refused(f"it would call a {type(function).__name__}.")
        return stand_in(function.name, arguments)

    stack: list[object] = []
    memo: dict[object, object] = {}
    for opcode, argument, _ in pickletools.genops(file):
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return stack.pop()
            case "INT" | "LONG" | "LONG1" | "LONG4" | "BININT" | "BININT1" | "BININT2" | "FLOAT" | "BINFLOAT":
                stack.append(argument)
            case (
                "STRING" | "BINSTRING" | "SHORT_BINSTRING" | "BINBYTES" | "SHORT_BINBYTES" | "BINBYTES8" | "BYTEARRAY8"
            ):
                stack.append(argument)
            case "UNICODE" | "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8":
                stack.append(argument)
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(opcode.name == "NEWTRUE")
            case "MARK":
                stack.append(MARK)
            case "POP":
                stack.pop()
            case "POP_MARK":
                _since_mark(stack)
            case "DUP":
                stack.append(stack[-1])
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE":
                stack.append(tuple(_since_mark(stack)))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                items = [stack.pop() for _ in range(int(opcode.name[-1]))]
                stack.append(tuple(reversed(items)))
            case "EMPTY_LIST" | "EMPTY_SET":
                stack.append([])
            case "LIST" | "FROZENSET":
                stack.append(_since_mark(stack))
            case "APPEND":
                item = stack.pop()
                _top(stack, list).append(item)
            case "APPENDS" | "ADDITEMS":
                items = _since_mark(stack)
                _top(stack, list).extend(items)
            case "EMPTY_DICT":
                stack.append({})
            case "DICT":
                stack.append(_pairs(_since_mark(stack)))
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _top(stack, dict)[key] = value
            case "SETITEMS":
                items = _since_mark(stack)
                _top(stack, dict).update(_pairs(items))
            case "GLOBAL":
                stack.append(_global(*str(argument).split(" ", 1)))
            case "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                stack.append(_global(module, attribute))
            case "REDUCE" | "NEWOBJ":
                arguments, function = stack.pop(), stack.pop()
                stack.append(call(function, arguments))
            case "NEWOBJ_EX":
                _, arguments, function = stack.pop(), stack.pop(), stack.pop()
                stack.append(call(function, arguments))
            case "OBJ":
                function, *arguments = _since_mark(stack)
                stack.append(call(function, tuple(arguments)))
            case "INST":
                stack.append(call(_global(*str(argument).split(" ", 1)), tuple(_since_mark(stack))))
            case "BUILD":
                stack.pop()
                # What a dictionary or a placeholder has for attributes is of no interest.
                if not isinstance(stack[-1], dict | Placeholder):
                    top = stack[-1]
                    name = top.name if isinstance(top, Global) else type(top).__name__
                    raise Refused(f"it would set the state of {name}.")
            case "BINPERSID":
                stack.append(persistent(stack.pop()))
            case name:
                raise Refused(f"it has the instruction {name}, which data do not need.")
    raise ValueError("its pickle has no end.")


def _top(stack: list[object], kind: type[Kind]) -> Kind:
    top = stack[-1]
    if not isinstance(top, kind):
        raise ValueError(f"expected a {kind.__name__} to fill, got a {type(top).__name__}.")
    return top


def _since_mark(stack: list[object]) -> list[object]:
    items = []
    while (item := stack.pop()) is not MARK:
        items.append(item)
    return items[::-1]


def _pairs(items: list[object]) -> dict[object, object]:
    return dict(zip(items[::2], items[1::2], strict=True))


def _global(module: object, attribute: object) -> Global:
    if not isinstance(module, str) or not isinstance(attribute, str):
        raise ValueError("a function has no name.")
    return Global(f"{module}.{attribute}")
