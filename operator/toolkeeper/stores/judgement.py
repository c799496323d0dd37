"""What follows from a reading of the folder, given what it said before. Pure: it decides what is gone and what is not.

An object is gone when nothing declares it any more, nothing unreadable could, nothing has disappeared for a moment, and
not too much went at once. Otherwise its last good content stays in force.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from toolkeeper.reconcile.ports import Problem
from toolkeeper.resources.meta import Key
from toolkeeper.stores.manifests import Declaration, Manifest, Reading

SHARP = 4
"""From this many objects on, losing more than half of them at once is not believed."""

EMPTIED = "is empty: what it declared stays in force; delete the file, or leave a comment in it, if that is meant to go"


@dataclass(frozen=True, slots=True)
class Past:
    """What is remembered of the folder."""

    declared: Mapping[Key, str]
    """Object → path of the file that declared it last."""
    files: AbstractSet[str]
    """Files that were understood at least once."""
    elsewhere: str = ""
    """The folder this memory is of, when it is another one."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How much may go."""

    root: str
    allow_prune: bool
    settled: Callable[[Key, str], bool]
    """Whether the object has been missing from that path long enough to mean it."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What to do about it."""

    wanted: tuple[Declaration, ...]
    paths: Mapping[Key, str]
    """File of every wanted object."""
    gone: tuple[Key, ...]
    problems: tuple[Problem, ...]
    complete: bool
    missing: tuple[Key, ...] = ()
    """Objects that nothing declares any more."""
    settling: bool = False
    """It is too early to say whether what is missing is gone."""
    held: bool = False
    """Too much is missing to believe that it is gone."""


def judge(reading: Reading, past: Past, rules: Rules) -> Judgement:
    """Decide."""
    claims = _claims(reading, past, rules)
    missing = [
        key
        for key in past.declared
        if key not in claims.sources and not any(each.mentions(key) for each in reading.manifests)
    ]
    # As long as things keep disappearing, somebody is in the middle of something: a checkout, an editor's save.
    unsettled = [key for key in missing if not rules.settled(key, past.declared[key])]
    doubt = _doubt(reading, past, missing, rules)
    unseen = [_unseen(rules.root, folder, why) for folder, why in reading.unseen.items()]
    return Judgement(
        wanted=tuple(claims.wanted),
        paths=claims.paths,
        gone=() if unsettled or doubt else tuple(missing),
        problems=(*doubt, *unseen, *reading.problems, *claims.emptied, *claims.duplicates),
        complete=not (doubt or unseen or any(_unknown(each, past, claims) for each in reading.manifests)),
        missing=tuple(missing),
        settling=bool(unsettled),
        held=bool(doubt),
    )


@dataclass(slots=True)
class _Claims:
    """For every object the first file, in path order, that declares it, or that declared it before it broke."""

    wanted: list[Declaration] = field(default_factory=list)
    paths: dict[Key, str] = field(default_factory=dict)
    sources: dict[Key, str] = field(default_factory=dict)
    """Also of objects whose last good content holds."""
    duplicates: list[Problem] = field(default_factory=list)
    emptied: list[Problem] = field(default_factory=list)


def _claims(reading: Reading, past: Past, rules: Rules) -> _Claims:
    claims, root = _Claims(), rules.root
    before: dict[str, list[Key]] = {}
    for key, path in past.declared.items():
        before.setdefault(path, []).append(key)
        if any(not folder or path.startswith(folder + "/") for folder in reading.unseen):
            claims.sources[key] = f"{root}/{path}"
    for manifest in reading.manifests:
        for declaration in manifest.contents.declarations:
            key = declaration.resource.key
            if key in claims.sources:
                claims.duplicates.append(_duplicate(key, declaration.source, claims.sources[key]))
                continue
            claims.sources[key] = declaration.source
            claims.wanted.append(declaration)
            claims.paths[key] = manifest.path
        for key in before.get(manifest.path, ()):
            if manifest.doubtful(key):
                claims.sources.setdefault(key, f"{root}/{manifest.path}")
    if not rules.allow_prune:
        _hold_emptied(claims, reading, before, root)
    return claims


def _hold_emptied(claims: _Claims, reading: Reading, before: Mapping[str, Sequence[Key]], root: str) -> None:
    """A file without a character is what a full disk or a crash leaves; nobody says with it that objects are to go."""
    for manifest in reading.manifests:
        lost = [key for key in before.get(manifest.path, ()) if key not in claims.sources]
        if manifest.blank and lost:
            source = f"{root}/{manifest.path}"
            claims.sources.update(dict.fromkeys(lost, source))
            claims.emptied.append(Problem(source, EMPTIED, lost[0] if len(lost) == 1 else None))


def _doubt(reading: Reading, past: Past, missing: list[Key], rules: Rules) -> list[Problem]:
    """Why what is missing is not believed to be gone."""
    count, total = len(missing), len(past.declared)
    if rules.allow_prune:
        return []
    if not reading.manifests and not reading.unseen:
        if not total:
            return [Problem(rules.root, "holds no manifests (*.yaml, *.yml, *.json)")]
        kept = "1 object is kept" if total == 1 else f"{total} objects are kept"
        return [_kept(rules, f"holds no manifests: nothing is deleted ({kept})")]
    if missing and past.elsewhere:
        return [
            _kept(rules, f"is another folder than {past.elsewhere}: {count} objects that it lacks are kept")
        ]
    if total >= SHARP and count * 2 > total:
        return [_kept(rules, f"lost {count} of {total} objects at once: they are kept")]
    return []


def _kept(rules: Rules, what: str) -> Problem:
    return Problem(
        rules.root, f"{what}; bring the files back, or say --allow-prune if they are meant to be gone"
    )


def _unseen(root: str, folder: str, why: str) -> Problem:
    return Problem(
        f"{root}/{folder}".rstrip("/"),
        f"cannot be listed ({why}): what it declared stays in force; make it readable, is it mounted?",
    )


def _unknown(manifest: Manifest, past: Past, claims: _Claims) -> bool:
    """Whether something in the file was never understood, so that nobody can say what it declares."""
    if not manifest.understood:
        return manifest.path not in past.files
    named = (problem.key for problem in manifest.contents.problems)
    return any(key not in past.declared and key not in claims.paths for key in named)


def _duplicate(key: Key, source: str, first: str) -> Problem:
    return Problem(source, f"{key} is declared in {first} already, which holds; remove one of the two", key)
