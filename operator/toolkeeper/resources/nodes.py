"""The pieces of a document: what they mean, and where they stand.

Plain words mean what they mean to kubectl (YAML 1.1 without dates): `yes` is true, `1.10` is a number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

_WORDS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
}
_WHOLE: Final = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_NUMBER: Final = re.compile(
    r"[-+]?(0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*(:[0-5]?[0-9])*|"
    r"([0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?|\.(inf|Inf|INF)|\.(nan|NaN|NAN))"
)


class Mark(NamedTuple):
    """A place in a text; both count from 1."""

    line: int
    column: int


class Odd(NamedTuple):
    """A number that is no plain whole number: a fraction, octal, hexadecimal, sexagesimal, or too long."""

    text: str


@dataclass(slots=True)
class Node:
    """One piece of a document."""

    kind: Literal["plain", "text", "list", "map"]
    mark: Mark
    text: str = ""
    items: list[tuple[Mark, Node]] = field(default_factory=list)
    entries: dict[str, tuple[Mark, Node]] = field(default_factory=dict)
    """For each key, where the key stands and its value."""
    weight: int = 16
    """Characters with all aliases written out, and sixteen for each piece."""

    def meaning(self) -> str | int | bool | Odd | None:
        """What a scalar stands for."""
        if self.kind == "text":
            return self.text
        if self.text in _WORDS:
            return _WORDS[self.text]
        if _WHOLE.fullmatch(self.text):
            return int(self.text)
        return Odd(self.text) if _NUMBER.fullmatch(self.text) else self.text

    def at(self, *path: str | int) -> Node | None:
        """The piece below at that path, or None."""
        found = self
        for step in path:
            place = found.place(step)
            if place is None:
                return None
            found = place[1]
        return found

    def mark_at(self, *path: str | int) -> Mark:
        """Where the piece at that path stands, or else the nearest one above it."""
        mark, node = self.mark, self
        for step in path:
            place = node.place(step)
            if place is None:
                break
            mark, node = place
        return mark

    def place(self, step: str | int) -> tuple[Mark, Node] | None:
        """The entry of a map or the item of a list, and where it stands."""
        if isinstance(step, int):
            return self.items[step] if step < len(self.items) else None
        return self.entries.get(step)
