"""Text → resources: the only way in for manifests, whether they come from files, rows or the command line.

A manifest declares: name, namespace, labels, annotations and spec. What only a store can know (status, uid,
generation, …) is skipped, so what `get -o yaml` prints can be applied again. Every fault is a problem with its line
and field; nothing else in the same text is affected, and nothing is ever raised.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from toolkeeper.resources.documents import Fault, documents
from toolkeeper.resources.faults import FieldFault, Path, field_faults, unknown_field
from toolkeeper.resources.fields import known_fields, nearest
from toolkeeper.resources.kinds import KINDS, Resource
from toolkeeper.resources.meta import API_VERSION, DNS_LABEL, GROUP, Key
from toolkeeper.resources.nodes import Mark, Node, Odd
from toolkeeper.resources.secret import SecretDocument

MOST_FAULTS: Final = 20
"""Faults of one document that are told; of the rest, their number."""

DECLARED: Final = ("name", "namespace", "labels", "annotations")
OBJECT_META: Final = frozenset(DECLARED) | {
    "creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "finalizers", "generateName", "generation",
    "managedFields", "ownerReferences", "resourceVersion", "selfLink", "uid",
}  # fmt: skip
"""What Kubernetes knows in metadata; all but what can be declared is skipped."""
ALIKE: Final = 0.75
"""How much an API group must resemble ours to be taken for a slip of the pen."""
PLAIN_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
M = TypeVar("M", bound=BaseModel)

FREE_MAPS: Final = frozenset(
    {"labels", "annotations", "toolboxSelector", "serverSelector", "data", "stringData"}
)
"""Maps with keys of their author's choice, where an empty value is a mistake; elsewhere it means *not set*."""


@dataclass(frozen=True, slots=True)
class ManifestProblem:
    """What is wrong with one place in a text, and what to do."""

    source: str
    line: int
    column: int
    field: str
    """As in `spec.env[2].name`; empty when the document as a whole is meant."""
    message: str
    hint: str = ""
    key: Key | None = None
    """The resource that it is about; None when that cannot be told, or when it is no resource (a Secret)."""

    def __str__(self) -> str:
        says = "; ".join(each for each in (self.message, self.hint) if each)
        return f"{self.source}:{self.line}: " + (f"{self.field}: {says}" if self.field else says)


@dataclass(frozen=True, slots=True)
class Declared:
    """A resource and where it is declared."""

    resource: Resource
    source: str
    line: int


@dataclass(frozen=True, slots=True)
class Parsed:
    """Everything that one text declares."""

    declared: tuple[Declared, ...] = ()
    problems: tuple[ManifestProblem, ...] = ()
    secrets: tuple[SecretDocument, ...] = field(default=(), repr=False)
    ignored: tuple[str, ...] = ()
    """Documents of other tools, as `file.yaml:12: apps/v1 Deployment`."""

    @property
    def resources(self) -> tuple[Resource, ...]:
        """The resources alone, in the order of the text."""
        return tuple(each.resource for each in self.declared)


def parse_text(text: str | bytes, source: str) -> Parsed:
    """What a YAML or JSON text with any number of documents declares. `source` names it for people. Never raises."""
    reader = _Reader(source)
    for document in documents(text):
        if isinstance(document, Fault):
            reader.tell(document.mark, "", document.message)
        else:
            reader.read(document, ())
    return Parsed(
        tuple(reader.declared), tuple(reader.problems), tuple(reader.secrets), tuple(reader.ignored)
    )


class _Reader:
    """Collects what the documents of one text declare."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._lines: dict[Key, int] = {}
        self.declared: list[Declared] = []
        self.problems: list[ManifestProblem] = []
        self.secrets: list[SecretDocument] = []
        self.ignored: list[str] = []

    def tell(self, mark: Mark, where: str, message: str, hint: str = "", key: Key | None = None) -> None:
        """Note a problem."""
        self.problems.append(ManifestProblem(self._source, *mark, where, message, hint, key))

    def read(self, document: Node, prefix: Path) -> None:
        """Take in one document, or one item of a List."""
        if document.kind != "map":
            says = f"a manifest is a map with apiVersion, kind, metadata and spec, not {_named(document)}"
            self.tell(document.mark, _printed(prefix), says)
            return
        stranger = _strangeness(document)
        if stranger is not None:
            mark = document.mark_at(*stranger.path)
            self.tell(mark, _printed((*prefix, *stranger.path)), stranger.message, stranger.hint)
            return
        api_version, kind = _text(document, "apiVersion"), _text(document, "kind")
        if (api_version == "v1" and kind == "List") or (
            api_version == API_VERSION and kind.removesuffix("List") in KINDS and kind.endswith("List")
        ):
            self._list(document, prefix)
        elif api_version == API_VERSION:
            self._resource(document, kind, prefix)
        elif (api_version, kind) == ("v1", "Secret"):
            self._secret(document, prefix)
        else:
            self.ignored.append(f"{self._source}:{document.mark.line}: {api_version} {kind}"[:400])

    def _list(self, document: Node, prefix: Path) -> None:
        items = document.at("items")
        if items is None or items.kind != "list":
            self.tell(document.mark_at("items"), _printed((*prefix, "items")), "must be a list of manifests")
            return
        if prefix:
            self.tell(document.mark, _printed(prefix), "a List cannot contain Lists")
            return
        for index, (_, item) in enumerate(items.items):
            self.read(item, ("items", index))

    def _resource(self, document: Node, kind: str, prefix: Path) -> None:
        key = _key(document, kind)
        found = self._validated(KINDS[kind], document, prefix, key)
        if found is None:
            return
        if found.key in self._lines:
            says = f"{found.key} is declared twice, first in line {self._lines[found.key]}"
            self.tell(document.mark, _printed(prefix), says, "remove one of them", found.key)
            return
        self._lines[found.key] = document.mark.line
        self.declared.append(Declared(found, self._source, document.mark.line))

    def _secret(self, document: Node, prefix: Path) -> None:
        found = self._validated(SecretDocument, document, prefix, None)
        if found is not None:
            self.secrets.append(found)

    def _validated(self, model: type[M], document: Node, prefix: Path, key: Key | None) -> M | None:
        faults = [*_unknown_metadata(model, document), *_unknown_unset(model, document)]
        found: M | None = None
        try:
            text = json.dumps(_declarable(_json(document)))
            found = model.model_validate_json(text, strict=True, by_alias=True, by_name=False)
        except ValidationError as exc:
            faults += field_faults(model, document, exc)
        faults.sort(key=lambda fault: document.mark_at(*fault.path))
        for fault in faults[:MOST_FAULTS]:
            mark = document.mark_at(*fault.path)
            self.tell(mark, _printed((*prefix, *fault.path)), fault.message, fault.hint, key)
        if len(faults) > MOST_FAULTS:
            self.tell(
                document.mark, _printed(prefix), f"and {len(faults) - MOST_FAULTS} more faults", key=key
            )
        return None if faults else found


def _strangeness(document: Node) -> FieldFault | None:
    """Why the document cannot be taken for any kind of manifest, ours or another tool's; None when it can."""
    api_version, kind = document.at("apiVersion"), document.at("kind")
    if api_version is None and kind is None:
        return FieldFault((), "is no manifest: apiVersion and kind are missing")
    ours = kind is not None and nearest(kind.text, KINDS) is not None
    if api_version is None:
        return FieldFault(("apiVersion",), "is missing", f"write {API_VERSION}" if ours else "")
    if kind is None:
        return FieldFault(("kind",), "is missing", f"one of {', '.join(KINDS)}")
    for name, node in (("apiVersion", api_version), ("kind", kind)):
        if node.kind in {"map", "list"} or not isinstance(node.meaning(), str):
            return FieldFault((name,), "must be text")
    return _unknown_version(api_version.text, ours) or _unknown_kind(api_version.text, kind.text)


def _unknown_version(api_version: str, ours: bool) -> FieldFault | None:
    group, _, version = api_version.rpartition("/")
    if group == GROUP:
        told = f"this Toolkeeper knows {API_VERSION} only"
        return (
            FieldFault(("apiVersion",), f"unknown version {version[:40]}", told)
            if api_version != API_VERSION
            else None
        )
    similar = difflib.SequenceMatcher(None, group[:64].lower(), GROUP).ratio() > ALIKE
    if similar or (ours and "." not in group):
        return FieldFault(("apiVersion",), "unknown apiVersion", f"did you mean {API_VERSION}?")
    return None


def _unknown_kind(api_version: str, kind: str) -> FieldFault | None:
    if api_version != API_VERSION or kind in KINDS or kind in {f"{each}List" for each in KINDS}:
        return None
    close = nearest(kind, KINDS)
    return FieldFault(
        ("kind",), "unknown kind", f"did you mean {close}?" if close else f"one of {', '.join(KINDS)}"
    )


def _unknown_metadata(model: type[BaseModel], document: Node) -> list[FieldFault]:
    metadata = document.at("metadata")
    names = metadata.entries if metadata is not None and metadata.kind == "map" else {}
    return [unknown_field(model, ("metadata", name)) for name in names if name not in OBJECT_META]


def _unknown_unset(model: type[BaseModel], document: Node) -> Iterator[FieldFault]:
    """Empty fields count as not set, but what is misspelt must not vanish for being empty."""
    for path in _unset(document, ()):
        known = known_fields(model, path[:-1])
        if known and path[-1] not in known:
            yield unknown_field(model, path)


def _unset(node: Node, path: Path) -> Iterator[Path]:
    for index, (_, item) in enumerate(node.items):
        yield from _unset(item, (*path, index))
    for name, (_, value) in node.entries.items():
        if not path and name in {"metadata", "status"}:
            continue
        if value.kind == "plain" and value.meaning() is None:
            yield (*path, name)
        yield from _unset(value, (*path, name))


def _declarable(tree: dict[str, Any]) -> dict[str, Any]:
    tree.pop("status", None)
    metadata = tree.get("metadata")
    if not isinstance(metadata, dict):
        return tree
    return {**tree, "metadata": {name: metadata[name] for name in DECLARED if name in metadata}}


def _json(node: Node, *, free: bool = False) -> Any:
    """The piece as JSON. An empty value means *not set*, as it does to the Kubernetes API server."""
    if node.kind == "list":
        return [_json(item) for _, item in node.items]
    if node.kind == "map":
        values = {name: _json(value, free=name in FREE_MAPS) for name, (_, value) in node.entries.items()}
        return values if free else {name: value for name, value in values.items() if value is not None}
    meaning = node.meaning()
    # No field takes a fraction, so one stands for every number that is not a plain whole one.
    return 0.5 if isinstance(meaning, Odd) else meaning


def _key(document: Node, kind: str) -> Key | None:
    """The resource that the document is about, even if it is broken."""
    name, namespace = document.at("metadata", "name"), document.at("metadata", "namespace")
    words = [
        node.text if node is not None and node.kind in {"text", "plain"} else "" for node in (namespace, name)
    ]
    place = words[0] or "default"
    valid = re.fullmatch(DNS_LABEL, words[1]) and re.fullmatch(DNS_LABEL, place)
    return Key(kind, place, words[1]) if valid else None


def _text(document: Node, name: str) -> str:
    node = document.at(name)
    return node.text if node is not None else ""


def _named(node: Node) -> str:
    return "a list" if node.kind == "list" else "a single value"


def _printed(path: Path) -> str:
    """`spec.env[2].name`."""
    parts = (
        f"[{each}]"
        if isinstance(each, int)
        else f".{each}"
        if PLAIN_NAME.fullmatch(each)
        else f"[{each[:80]!r}]"
        for each in path
    )
    return "".join(parts).removeprefix(".")
