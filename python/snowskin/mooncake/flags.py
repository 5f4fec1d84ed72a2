"""Flags as the programs of Mooncake Store take them: ``--name=value``, ``--name value``, ``-name``, ``--enable_x``, ``--noenable_x``, and files of them.

A flag is used, or known and without meaning here, which is said; one that nobody knows is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Union

Value = Union[bool, int, float, str]

_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|)\s*")
_UNIT_MS = {"": 1, "ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
_TRUE = ("true", "t", "1", "yes", "y")
_FALSE = ("false", "f", "0", "no", "n")
#: Files of flags that name files of flags, at most.
DEPTH_MAX = 8


class WrongFlag(Exception):
    """Flags with which a program does not start."""


@dataclass
class Flag:
    """A flag that is used: what it is without being named, and what it does. Its type is that of its value."""

    value: Value
    help: str


@dataclass
class Given:
    """What a command line says."""

    #: Of all flags that are used.
    values: dict[str, Value]
    #: Which of them were named.
    named: set[str] = field(default_factory=set)
    #: Named ones that mean nothing here.
    ignored: list[str] = field(default_factory=list)
    wants_help: bool = False
    wants_version: bool = False

    def text(self, name: str) -> str:
        """A value as text."""
        return str(self.values[name])

    def number(self, name: str) -> int:
        """A value as a whole number."""
        return int(self.values[name])

    def is_set(self, name: str) -> bool:
        """A value as a truth."""
        return bool(self.values[name])


class Grammar:
    """The flags of a program: those that are used, and the names of those that only its namesake knows."""

    def __init__(self, used: Mapping[str, Flag], truths: Iterable[str], others: Iterable[str]) -> None:
        self._used = used
        self._truths = {name for name, flag in used.items() if isinstance(flag.value, bool)} | set(truths)
        self._others = set(others)

    def parse(self, arguments: list[str]) -> Given:
        """Reads a command line. Raises :class:`WrongFlag`."""
        given = Given({name: flag.value for name, flag in self._used.items()})
        self._parse(arguments, given, 0)
        return given

    def take(self, given: Given, name: str, text: str) -> None:
        """A flag and its value, from wherever they are."""
        flag = self._used.get(name)
        if flag is not None:
            given.values[name] = _value(name, text, flag.value)
            given.named.add(name)
        elif name in self._truths or name in self._others:
            given.ignored.append(name)
        else:
            raise WrongFlag(f"there is no flag --{name}: see --help")

    def help(self) -> str:
        """A line for each flag that is used, and the names of the others."""
        lines = []
        for name, flag in self._used.items():
            shown = str(flag.value).lower() if isinstance(flag.value, bool) else flag.value
            lines.append(f"  --{name}\n        {flag.help} (default: {shown if shown != '' else 'none'})")
        others = ", ".join(sorted((self._truths | self._others) - set(self._used)))
        return "\n".join(lines) + f"\n\nKnown, and without meaning here: {others}.\n"

    def _parse(self, arguments: list[str], given: Given, depth: int) -> None:
        undefined = _undefined(arguments)
        rest = iter(arguments)
        for argument in rest:
            if not argument.startswith("-") or argument in ("-", "--"):
                raise WrongFlag(f"{argument!r} is no flag: see --help")
            name, equals, text = argument.lstrip("-").partition("=")
            if name in ("help", "helpfull", "helpshort", "h"):
                given.wants_help = True
            elif name == "version":
                given.wants_version = True
            elif name in self._truths:
                self.take(given, name, text if equals else "true")
            elif name[:2] == "no" and name[2:] in self._truths and not equals:
                self.take(given, name[2:], "false")
            elif name == "undefok" or name in undefined:
                pass
            elif name not in self._used and name not in self._others and name != "flagfile":
                raise WrongFlag(f"there is no flag --{name}: see --help")
            else:
                text = text if equals else next(rest, "")
                if not equals and not text:
                    raise WrongFlag(f"--{name} needs a value")
                if name == "flagfile":
                    self._parse_file(text, given, depth)
                else:
                    self.take(given, name, text)

    def _parse_file(self, path: str, given: Given, depth: int) -> None:
        if depth == DEPTH_MAX:
            raise WrongFlag(f"{path} is named by too many files of flags")
        lines = [line.strip() for line in read(path).splitlines()]
        flags = [line for line in lines if line and not line.startswith("#")]
        self._parse([flag if flag.startswith("-") else f"--{flag}" for flag in flags], given, depth + 1)


def read(path: str) -> str:
    """A file's text. Raises :class:`WrongFlag`."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, ValueError) as error:
        raise WrongFlag(f"{path} cannot be read: {error}") from None


def milliseconds(name: str, text: str) -> int:
    """A time: a number of milliseconds, or one with ms, s, m or h behind it."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise WrongFlag(f'--{name} is {text!r}: a time is a number of milliseconds, or such as "10s"')
    return round(float(found[1]) * _UNIT_MS[found[2]])


def _undefined(arguments: list[str]) -> set[str]:
    """The names that ``--undefok`` excuses."""
    excused = (argument.split("=", 1)[1] for argument in arguments if argument.lstrip("-").startswith("undefok="))
    return {name for names in excused for name in names.split(",")}


def _value(name: str, text: str, default: Value) -> Value:
    word = text.strip().lower()
    if isinstance(default, bool):
        if word not in _TRUE and word not in _FALSE:
            raise WrongFlag(f"--{name} is {text!r}: it is true or false")
        return word in _TRUE
    try:
        if isinstance(default, int):
            return int(word, 0)
        if isinstance(default, float):
            return float(word)
    except ValueError:
        raise WrongFlag(f"--{name} is {text!r}: it is a number") from None
    return text
