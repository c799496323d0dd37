"""Text → documents: trees that know the line of everything in them, and a fault for each piece that is no document.

Bounded before anything is built, because whoever can write a manifest could otherwise stop the operator: aliases are
counted as what they stand for, depth and size have limits, and nothing here recurses as deep as the input wants.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

import yaml

from toolkeeper.resources.nodes import Mark, Node

LARGEST: Final = 1024 * 1024
"""Bytes of one text."""
HEAVIEST: Final = 8 * LARGEST
"""Characters of one document with all aliases written out, where each piece counts sixteen more."""
DEEPEST: Final = 40
"""Levels of one document."""
MOST: Final = 10_000
"""Documents of one text."""

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_BOUNDARY: Final = re.compile(r"^(?:---|\.\.\.)(?=[ \t\n]|\Z)", re.MULTILINE)
_UNPRINTABLE: Final = re.compile("[^\t\n\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NOT_IN_YAML: Final = re.compile(
    "\\\\u(d[89ab][0-9a-f]{2})\\\\u(d[c-f][0-9a-f]{2})|[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]",
    re.IGNORECASE,
)
_STANDARD: Final = "tag:yaml.org,2002:"

TABBED: Final = "a tab is used for indentation; YAML wants spaces"
# What libyaml says, and what a person can do about it.
_ADVICE: Final = (
    ("tab character", TABBED),
    ("mapping values are not allowed", "there is a ':' where none can be; quote text that contains ': '"),
    ("could not find expected ':'", "a ':' is missing, or the line is indented wrongly"),
    (
        "did not find expected key",
        "the line is indented wrongly, or a quote or bracket before it is not closed",
    ),
    (
        "did not find expected '-' indicator",
        "a list entry must begin with '- ', or the line is indented wrongly",
    ),
    ("unexpected end of stream", "a quote is not closed"),
    ("did not find expected ',' or", "a bracket is not closed, or a ',' is missing"),
    ("alphabetic or numeric character", "a text that begins with * or & must be quoted"),
    ("cannot start any token", "a text that begins with @, ` or % must be quoted"),
    ("unknown escape character", r"in double quotes a backslash must be written \\"),
)


class Fault(NamedTuple):
    """Why a piece of text is no document."""

    mark: Mark
    message: str


def documents(text: str | bytes) -> Iterator[Node | Fault]:
    """The documents of a YAML or JSON text in order, leaving out empty ones. Never raises."""
    size = len(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    if size > LARGEST:
        yield Fault(Mark(1, 1), f"the text has {size} bytes, more than 1 MiB; split it")
        return
    decoded = text.decode("utf-8", "surrogateescape") if isinstance(text, bytes) else text
    decoded = decoded.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    if decoded.startswith("version https://git-lfs.github.com/spec/"):
        yield Fault(Mark(1, 1), "is a pointer of Git LFS; keep manifests in Git itself")
        return
    if len(_BOUNDARY.findall(decoded)) > MOST:
        yield Fault(Mark(1, 1), f"the text has more than {MOST} documents; split it")
        return
    for first_line, chunk in _chunks(decoded):
        found = _document(chunk, first_line)
        if found is not None:
            yield found


def _chunks(text: str) -> Iterator[tuple[int, str]]:
    """The text cut before each `---` and `...`, so that a broken document does not hide its neighbours."""
    start = line = 0
    ends = [each.start() for each in _BOUNDARY.finditer(text)]
    for end in (*ends, len(text)):
        chunk = text[start:end].removeprefix("...")
        if end < len(text) and _is_prologue(chunk):
            continue  # it belongs to the document whose `---` follows
        yield line, chunk
        line += text.count("\n", start, end)
        start = end


def _is_prologue(chunk: str) -> bool:
    if "%" not in chunk or chunk.startswith("---"):
        return False
    return all(line.startswith(("%", "#")) or not line.strip() for line in chunk.split("\n"))


def _document(chunk: str, first_line: int) -> Node | Fault | None:
    chunk = _json_as_yaml(chunk)
    if bad := _UNPRINTABLE.search(chunk):
        before = chunk[: bad.start()]
        mark = Mark(first_line + before.count("\n") + 1, bad.start() - before.rfind("\n"))
        if "\ud800" <= bad[0] <= "\udfff":
            return Fault(mark, "is not UTF-8 text; save it as UTF-8")
        return Fault(mark, f"has the control character U+{ord(bad[0]):04X}; remove it")
    builder = _Builder(first_line)
    try:
        for event in yaml.parse(chunk, Loader=_LOADER):
            builder.take(event)
    except _Refused as exc:
        return exc.fault
    except yaml.MarkedYAMLError as exc:
        place = exc.problem_mark or exc.context_mark
        mark = Mark(first_line + place.line + 1, place.column + 1) if place else Mark(first_line + 1, 1)
        if place and chunk[place.index : place.index + 1] == "\t":
            return Fault(mark, TABBED)
        return Fault(mark, _advice(str(exc.problem)))
    except yaml.YAMLError as exc:
        return Fault(Mark(first_line + 1, 1), _advice(str(exc)))
    return builder.root


def _json_as_yaml(chunk: str) -> str:
    """JSON is YAML but for the characters that it may hold raw, and for the pairs that may spell one character."""
    if not (_NOT_IN_YAML.search(chunk) and chunk.lstrip().startswith(("{", "["))):
        return chunk
    try:
        json.loads(chunk)
    except (ValueError, RecursionError):
        return chunk
    return _NOT_IN_YAML.sub(_escaped, chunk)


def _escaped(found: re.Match[str]) -> str:
    if found[1] is None:
        return f"\\u{ord(found[0]):04x}"
    return chr(0x10000 + ((int(found[1], 16) - 0xD800) << 10) + int(found[2], 16) - 0xDC00)


def _advice(problem: str) -> str:
    return next((advice for sign, advice in _ADVICE if sign in problem), f"is not YAML: {problem}")


class _Refused(Exception):
    def __init__(self, mark: Mark, message: str) -> None:
        super().__init__(message)
        self.fault = Fault(mark, message)


@dataclass(slots=True)
class _Open:
    """A list or map whose end has not come yet."""

    node: Node
    key: tuple[Mark, str] | None = None
    merged: dict[str, tuple[Mark, Node]] = field(default_factory=dict)
    merging: bool = False


class _Builder:
    """Takes parser events; `root` is the finished document."""

    def __init__(self, first_line: int) -> None:
        self._first_line = first_line
        self._open: list[_Open] = []
        self._anchors: dict[str, Node | None] = {}
        self.root: Node | None = None

    def take(self, event: Any) -> None:
        """One event of `yaml.parse`."""
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            self._begin(event)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            self._end()
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)

    def _mark(self, event: Any) -> Mark:
        return Mark(self._first_line + event.start_mark.line + 1, event.start_mark.column + 1)

    def _scalar(self, event: Any) -> None:
        mark = self._mark(event)
        plain = event.implicit[0]
        if event.tag is not None and event.tag != "!":
            short = event.tag.removeprefix(_STANDARD)
            if event.tag == short or short not in {"str", "int", "bool", "null", "float"}:
                raise _Refused(mark, f"the tag {event.tag[:40]} has no meaning here; remove it")
            plain = short != "str"
        node = Node("plain" if plain else "text", mark, event.value, weight=16 + len(event.value))
        if event.anchor:
            self._anchors[event.anchor] = node
        self._add(mark, node)

    def _begin(self, event: Any) -> None:
        mark = self._mark(event)
        kind: Literal["map", "list"] = "map" if isinstance(event, yaml.MappingStartEvent) else "list"
        if event.tag is not None and event.tag not in {"!", f"{_STANDARD}map", f"{_STANDARD}seq"}:
            raise _Refused(mark, f"the tag {event.tag[:40]} has no meaning here; remove it")
        if len(self._open) >= DEEPEST:
            raise _Refused(mark, f"is nested deeper than {DEEPEST} levels")
        if self._open and self._open[-1].node.kind == "map" and self._open[-1].key is None:
            braces = kind == "map" and event.flow_style
            raise _Refused(
                mark, "text that begins with '{' must be quoted" if braces else "a key must be text"
            )
        node = Node(kind, mark)
        if event.anchor:
            self._anchors[event.anchor] = None
            node.text = event.anchor
        self._open.append(_Open(node))

    def _end(self) -> None:
        done = self._open.pop()
        node = done.node
        if done.merged:
            node.entries = {**done.merged, **node.entries}
        if node.text:
            self._anchors[node.text] = node
            node.text = ""
        self._add(node.mark, node)

    def _alias(self, event: Any) -> None:
        mark = self._mark(event)
        if event.anchor not in self._anchors:
            raise _Refused(
                mark, f"*{event.anchor} refers to nothing: there is no &{event.anchor} before it; quote it"
            )
        node = self._anchors[event.anchor]
        if node is None:
            raise _Refused(mark, f"*{event.anchor} contains itself")
        self._add(mark, node)

    def _add(self, mark: Mark, node: Node) -> None:
        if not self._open:
            self.root = None if node.kind == "plain" and node.meaning() is None else node
            return
        parent = self._open[-1]
        parent.node.weight += node.weight
        if parent.node.weight > HEAVIEST:
            raise _Refused(mark, "is too large with its aliases written out")
        if parent.node.kind == "list":
            parent.node.items.append((mark, node))
        elif parent.key is None:
            parent.key = self._key(parent, mark, node)
        else:
            self._entry(parent, mark, node)

    def _key(self, parent: _Open, mark: Mark, node: Node) -> tuple[Mark, str]:
        if node.kind not in {"plain", "text"}:
            raise _Refused(mark, "a key must be text")
        parent.merging = node.kind == "plain" and node.text == "<<"
        if not parent.merging and node.text in parent.node.entries:
            first = parent.node.entries[node.text][0]
            raise _Refused(mark, f"{node.text[:64]} is set twice, first in line {first.line}; remove one")
        return mark, node.text

    def _entry(self, parent: _Open, mark: Mark, node: Node) -> None:
        assert parent.key is not None
        where, key = parent.key
        parent.key = None
        if not parent.merging:
            parent.node.entries[key] = (where, node)
            return
        sources = [each for _, each in node.items] if node.kind == "list" else [node]
        for source in sources:
            if source.kind != "map":
                raise _Refused(mark, "<< takes a map, or a list of maps")
            for name, place in source.entries.items():
                parent.merged.setdefault(name, place)
