"""Pickles read as data. A pickle is a program that may call any function; here every name stands for inert data."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import IO, NoReturn


class Refused(ValueError):
    """A file asks for something that reading data does not need."""


class Global(type):
    """A class in place of each function or class that a pickle names; ``__name__`` is the name. Nothing is imported."""

    def __setstate__(cls, state: object) -> NoReturn:
        raise Refused(f"it would set the state of {cls.__name__}.")


class Attributed(dict[object, object]):
    """A dictionary whose attributes, as of an ``OrderedDict``, are not read."""

    def __setstate__(self, state: object) -> None:
        pass


class Placeholder:
    """An object that was not made; its state is not read."""

    def __init__(self, name: str):
        self.name = name

    def __setstate__(self, state: object) -> None:
        pass


def build(
    file: IO[bytes],
    stand_in: Callable[[str, tuple[object, ...]], object],
    persistent: Callable[[object], object],
) -> object:
    """Return the value of the next pickle of ``file``, of builtin types and what the two functions return.

    Args:
        file: at the start of a pickle; left after its end.
        stand_in: ``(name of a function or class, arguments)`` to a value in place of the call; raises
            :class:`Refused` on a name it does not know.
        persistent: identifier of an object kept outside the pickle to a value in place of it.

    Raises:
        Refused: on any other call, which is named.
        ValueError, TypeError, LookupError, AttributeError, EOFError, MemoryError: if the pickle is damaged or does with
            a value what its type does not support.
    """
    try:
        return _Unpickler(file, stand_in, persistent).load()
    except pickle.UnpicklingError as error:
        raise ValueError(f"its pickle is damaged: {error}") from error


class _Unpickler(pickle.Unpickler):
    def __init__(
        self,
        file: IO[bytes],
        stand_in: Callable[[str, tuple[object, ...]], object],
        persistent: Callable[[object], object],
    ):
        # Python 2 wrote texts as bytes.
        super().__init__(file, encoding="latin1")
        self._stand_in, self._persistent = stand_in, persistent

    def find_class(self, module: str, name: str, /) -> Global:
        full_name, stand_in = f"{module}.{name}", self._stand_in

        def new(cls: type, *arguments: object, **_: object) -> object:
            return stand_in(full_name, arguments)

        return Global(full_name, (), {"__new__": new})

    def persistent_load(self, pid: object) -> object:
        return self._persistent(pid)
