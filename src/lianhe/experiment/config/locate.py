"""On which line of a TOML file a key stands: `tomllib` tells it only for what is not TOML at all."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left
from typing import TypeAlias

#: a key, dots resolved: ("tasks", 1, "metrics", 0) is the first metric of the second task
KeyPath: TypeAlias = tuple[str | int, ...]

_BLANK = re.compile(r"(?:\s|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_TEXT = re.compile(
    r"""
      \"{3}(?:[^\\]|\\.)*?\"{3,5}   # up to two quotes may stand before the three that close
    | '{3}.*?'{3,5}
    | "(?:[^"\\\n]|\\.)*"
    | '[^'\n]*'
    """,
    re.VERBOSE | re.DOTALL,
)
_NAME = re.compile(r"[A-Za-z0-9_-]+")
#: numbers, dates (which may hold a space) and booleans end where a list, an inline table or the line ends
_OTHER = re.compile(r"[^,\]}#\n]*")


class Lines:
    """The lines of a TOML document's keys.

    Args:
        text: a document that `tomllib` accepts.

    Example:
        >>> lines = Lines('kind = "tasks"' + chr(10) + "[[tasks]]" + chr(10) + 'metrics = ["auroc", "f2"]')
        >>> lines.of(("tasks", 0, "metrics", 1)), lines.of(("tasks", 0, "los"))
        (3, 2)
    """

    def __init__(self, text: str) -> None:
        self._lines = _Scanner(text).document()

    def of(self, path: KeyPath) -> int | None:
        """Line of a key, from 1; where it is missing, of the innermost table around it, if there is one."""
        for length in range(len(path), 0, -1):
            if path[:length] in self._lines:
                return self._lines[path[:length]]
        return None


class _Scanner:
    """Walks over a valid document once, and notes where keys and elements begin."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self._breaks = [match.start() for match in re.finditer("\n", text)]
        self._last: dict[KeyPath, int] = {}
        self._found: dict[KeyPath, int] = {}

    def document(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        self._skip(_BLANK)
        while self._at < len(self._text):
            if self._peek("["):
                table = self._header()
            else:
                self._pair(table)
            self._skip(_BLANK)
        return self._found

    def _header(self) -> KeyPath:
        """`[a.b]` or `[[a.b]]`; below an array of tables, a name means the last element."""
        line, brackets = self._line(), 2 if self._peek("[[") else 1
        self._at += brackets
        *parents, name = self._key()
        self._at += brackets
        path: KeyPath = ()
        for parent in parents:
            path = self._current((*path, parent))
            self._found.setdefault(path, line)
        path = (*path, name)
        self._found.setdefault(path, line)
        if brackets == 2:
            self._last[path] = self._last.get(path, -1) + 1
            path = self._current(path)
            self._found[path] = line
        return path

    def _current(self, path: KeyPath) -> KeyPath:
        return (*path, self._last[path]) if path in self._last else path

    def _pair(self, table: KeyPath) -> None:
        line, path = self._line(), table
        for name in self._key():
            path = (*path, name)
            self._found.setdefault(path, line)
        self._at += 1  # the sign =
        self._skip(_SPACE)
        self._value(path)

    def _key(self) -> list[str]:
        """A key with its dots, and the space around it."""
        names = []
        while True:
            self._skip(_SPACE)
            names.append(self._name())
            self._skip(_SPACE)
            if not self._peek("."):
                return names
            self._at += 1

    def _name(self) -> str:
        quoted = self._peek('"') or self._peek("'")
        raw = self._take(_TEXT if quoted else _NAME)
        return str(tomllib.loads(f"name = {raw}")["name"]) if quoted else raw

    def _value(self, path: KeyPath) -> None:
        if self._peek("["):
            self._items(path)
        elif self._peek("{"):
            self._members(path)
        else:
            self._take(_TEXT if self._peek('"') or self._peek("'") else _OTHER)

    def _items(self, path: KeyPath) -> None:
        """`[a, b, …]`, over any number of lines."""
        self._at += 1
        index = 0
        while not self._closed("]"):
            self._found[*path, index] = self._line()
            self._value((*path, index))
            index += 1

    def _members(self, path: KeyPath) -> None:
        """`{a = …, b = …}`."""
        self._at += 1
        while not self._closed("}"):
            self._pair(path)

    def _closed(self, bracket: str) -> bool:
        """Step over blanks and a comma; say whether the list or inline table ends, and step over its end."""
        self._skip(_BLANK)
        if self._peek(","):
            self._at += 1
            self._skip(_BLANK)
        ends = self._peek(bracket)
        self._at += ends
        return ends

    def _peek(self, text: str) -> bool:
        return self._text.startswith(text, self._at)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        self._take(pattern)

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        assert match is not None, f"tomllib accepted what the scanner does not know, at {self._at}"
        self._at = match.end()
        return match.group()

    def _line(self) -> int:
        return bisect_left(self._breaks, self._at) + 1
