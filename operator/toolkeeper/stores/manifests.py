"""What the files of a folder say: each parsed once per content, and what a broken one may still declare."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from toolkeeper.reconcile.ports import Problem, Resource, Secret
from toolkeeper.resources.meta import Key
from toolkeeper.resources.parse import ManifestProblem, parse_text
from toolkeeper.stores import tree
from toolkeeper.stores.overrides import spec_hash

RACY_SECONDS = 2.0
"""A file this young may change again without its stamp showing it; it is read again next time."""

PAUSE_SECONDS = 0.015
PAUSES = 5
"""A file that still changes after so many pauses is read as it is."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """A resource, and where it is declared."""

    resource: Resource
    source: str
    """`file:line`."""
    spec_hash: str
    metadata: str
    """Canonical JSON of what the author may say there."""

    @classmethod
    def of(cls, resource: Resource, source: str) -> Self:
        """The declaration, digested once for all the times that it is compared."""
        metadata = resource.metadata
        said = {
            "name": metadata.name,
            "namespace": metadata.namespace,
            "labels": metadata.labels,
            "annotations": metadata.annotations,
        }
        return cls(resource, source, spec_hash(resource), json.dumps(said, sort_keys=True))


@dataclass(frozen=True, slots=True)
class Contents:
    """What one text declares."""

    declarations: tuple[Declaration, ...] = ()
    secrets: Mapping[tuple[str, str], Secret] = field(default_factory=dict, repr=False)
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """One file as it is understood now."""

    path: str
    stamp: tree.Stamp | None
    text: str | None = field(repr=False)
    """None when it could not be read at all."""
    contents: Contents

    @property
    def blank(self) -> bool:
        """Whether there is nothing in it, not even a comment."""
        return self.text is not None and not self.text.strip("\ufeff \t\r\n\0")

    @property
    def understood(self) -> bool:
        """Whether everything in it could at least be named."""
        return all(problem.key is not None for problem in self.contents.problems)

    def doubtful(self, key: Key) -> bool:
        """Whether it may declare the object although it does not seem to."""
        return any(problem.key in {None, key} for problem in self.contents.problems)

    def mentions(self, key: Key) -> bool:
        """Whether the broken file looks as if the object had moved to it."""
        if self.text is None or not self.doubtful(key):
            return False
        return (
            re.search(rf"""\bname['"]?\s*:\s*['"]?{re.escape(key.name)}(?![a-z0-9-])""", self.text)
            is not None
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """A whole folder as it is understood now."""

    manifests: tuple[Manifest, ...]
    unseen: Mapping[str, str]
    place: Path = Path()
    """The folder that was read, with all links resolved."""

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Everything that is wrong with single files."""
        return tuple(problem for manifest in self.manifests for problem in manifest.contents.problems)

    def same_as(self, other: Reading | None) -> bool:
        """Whether nothing changed, told without comparing contents: what was not parsed again is the same object."""
        if other is None or (self.place, self.unseen) != (other.place, other.unseen):
            return False
        if len(self.manifests) != len(other.manifests):
            return False
        pairs = zip(self.manifests, other.manifests, strict=True)
        return all(new is old or (new.text is None and new == old) for new, old in pairs)

    def secrets(self) -> dict[tuple[str, str], Secret]:
        """The secrets in it; the first declaration of a name holds."""
        found: dict[tuple[str, str], Secret] = {}
        for manifest in reversed(self.manifests):
            found.update(manifest.contents.secrets)
        return found


def contents_of(text: str, source: str) -> Contents:
    """What one text declares. `source` is its file's name for people."""
    parsed = parse_text(text, source)
    secrets: dict[tuple[str, str], Secret] = {}
    for document in parsed.secrets:
        name = (document.metadata.namespace, document.metadata.name)
        secrets.setdefault(name, Secret(document.values, document.metadata.labels))
    return Contents(
        tuple(Declaration.of(each.resource, f"{each.source}:{each.line}") for each in parsed.declared),
        secrets,
        tuple(_problem(each) for each in parsed.problems),
    )


def _problem(found: ManifestProblem) -> Problem:
    place = f"{found.source}:{found.line}"
    return Problem(place, str(found).removeprefix(f"{place}: "), found.key)


class Reader:
    """Reads a folder again and again, parsing only files whose content changed."""

    def __init__(
        self,
        root: Path,
        *,
        skip: Sequence[Path] = (),
        name: str | None = None,
        parse: Callable[[str, str], Contents] = contents_of,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """`parse` is called with a text and the file's name for people; `name` is what they call the folder."""
        self._root = root
        self._name = str(root) if name is None else name
        self._skip = skip
        self._parse = parse
        self._pause = pause
        self._known: dict[str, Manifest] = {}

    def read(self, now: float) -> Reading:
        """The folder as it is; `now` is in seconds since the epoch. Blocks: for a thread.

        A folder that is replaced by a link to another meanwhile is never read as half of each.
        """
        place = _resolved(self._root)
        reading = self._read(place, now)
        for _ in range(PAUSES):
            before, place = place, _resolved(self._root)
            if place == before:
                break
            reading = self._read(place, now)
        return reading

    def _read(self, place: Path, now: float) -> Reading:
        walk = self._at_rest(place)
        manifests = [self._manifest(file, now) for file in walk.files]
        hidden = {path: known for path, known in self._known.items() if walk.hides(path) is not None}
        self._known = hidden | {each.path: each for each in manifests}
        return Reading(tuple(manifests), walk.unseen, place)

    def _at_rest(self, place: Path) -> tree.Walk:
        """The folder when what changed has stopped changing: the first half of a manifest can be valid, too."""
        walk = tree.walk(place, skip=self._skip)
        for _ in range(PAUSES):
            if all(self._is_known(file) for file in walk.files):
                break
            before = walk.files
            self._pause(PAUSE_SECONDS)
            walk = tree.walk(place, skip=self._skip)
            if walk.files == before:
                break
        return walk

    def _is_known(self, file: tree.File) -> bool:
        known = self._known.get(file.path)
        return known is not None and known.stamp == file.stamp

    def _manifest(self, file: tree.File, now: float) -> Manifest:
        known = self._known.get(file.path)
        if (
            known is not None
            and file.stamp is not None
            and known.stamp == file.stamp
            and _settled(file.stamp, now)
        ):
            return known
        source = f"{self._name}/{file.path}"
        try:
            text = tree.text(file)
        except tree.Unreadable as exc:
            problem = Problem(f"{source}:1", str(exc))
            return Manifest(file.path, file.stamp, None, _remembering(known, Contents(problems=(problem,))))
        if known is not None and known.text == text:
            return known if known.stamp == file.stamp else replace(known, stamp=file.stamp)
        return Manifest(file.path, file.stamp, text, _remembering(known, self._parse(text, source)))


def _resolved(root: Path) -> Path:
    try:
        return root.resolve()
    except (OSError, RuntimeError):  # links in a circle; the walk says so
        return root


def _settled(stamp: tree.Stamp, now: float) -> bool:
    return stamp.modified / 1e9 < now - RACY_SECONDS and stamp.changed / 1e9 < now - RACY_SECONDS


def _remembering(known: Manifest | None, contents: Contents) -> Contents:
    """Secrets are kept nowhere on disk: of a file that broke, those that this process has read stay in force."""
    if known is None or all(problem.key is not None for problem in contents.problems):
        return contents
    return replace(contents, secrets={**known.contents.secrets, **contents.secrets})
