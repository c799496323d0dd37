"""What somebody edited between two versions of a server, field by field, in words that give no secret away."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any

from pydantic import ValidationError

from toolkeeper.planning.desired import secret_uses
from toolkeeper.planning.history import restart_of
from toolkeeper.resources.mcpserver import MCPServer, MCPServerSpec, RolloutRecord

Spec = Mapping[str, Any]
"""A spec as manifests write it."""

MOST = 5
"""Edits that are told one by one."""
LONGEST_VALUE = 60
UNSET = "not set"

REACHES_THE_CONTAINER = (
    "image",
    "package",
    "transport",
    "port",
    "path",
    "hostHeader",
    "command",
    "args",
    "env",
    "files",
    "volumes",
    "resources",
    "security",
    "network",
    "restartPolicy",
    "health.intervalSeconds",
)
"""The fields whose edit makes another container, in the order in which they are told."""

QUIET = frozenset({"env", "files"})
"""Lists whose values are never shown: too often one of them is a secret."""
FREE_TEXT = frozenset({"command", "args", "path"})
"""Fields in which somebody may have written a secret all the same."""
SECRETISH = re.compile(
    r"token|secret|passw|pwd|key|credential|auth|bearer|dsn|://[^/\s]*@|\b(ghp_|gho_|sk-|xox|AKIA|eyJ)"
    r"|[A-Za-z0-9+=_-]{32,}",
    re.IGNORECASE,
)
"""A value, or the name before it, that is better not shown."""


def change(server: MCPServer, since: str) -> str:
    """What leads from the version with the hash `since` to the one declared now; empty if nobody remembers it."""
    past = next((each for each in reversed(server.status.history) if each.hash == since), None)
    return "" if past is None else difference(past, written(server.spec), restart_of(server))


def difference(past: RolloutRecord, spec: Spec, restart: str) -> str:
    """What leads from a rollout to another version, given by its spec and the restart that was last requested."""
    if not past.spec or not spec:
        return ""  # it was too large to be kept
    found = edits(past.spec, spec)
    if found:
        return told(found)
    if restart != past.restart:
        return "a restart was requested"
    return "a secret was rotated" if _names_secrets(spec) else ""


def _names_secrets(spec: Spec) -> bool:
    try:
        return secret_uses(MCPServerSpec.model_validate(spec)) != ()
    except ValidationError:
        return False


def told(found: Sequence[str]) -> str:
    """A few of them, and how many more there are."""
    more = f"; and {len(found) - MOST} more" if len(found) > MOST else ""
    return "; ".join(found[:MOST]) + more


def written(spec: MCPServerSpec) -> dict[str, Any]:
    """The spec as manifests write it, with every default."""
    return spec.model_dump(mode="json", by_alias=True, exclude_none=True)


def edits(old: Spec, new: Spec) -> tuple[str, ...]:
    """`field: from → to` for each edit that makes another container; without values where they may be secret."""
    before, after = _with_defaults(old), _with_defaults(new)
    return tuple(
        line
        for field in REACHES_THE_CONTAINER
        for line in _differences(field, _at(before, field), _at(after, field))
    )


def _with_defaults(spec: Spec) -> Spec:
    """A spec of another Toolkeeper may not fit the models of this one; then it is taken as it is."""
    try:
        return written(MCPServerSpec.model_validate(spec))
    except ValidationError:
        return spec


def _at(spec: Any, field: str) -> Any:
    for name in field.split("."):
        spec = spec.get(name) if isinstance(spec, Mapping) else None
    return spec


def _differences(field: str, old: Any, new: Any) -> Iterator[str]:
    if old == new:
        return
    if field in QUIET:
        yield from _quietly(field, old or (), new or ())
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in dict.fromkeys((*old, *new)):
            yield from _differences(f"{field}.{name}", old.get(name), new.get(name))
    elif field == "volumes":
        yield from _by_name(field, old or (), new or ())
    elif isinstance(old, list) and isinstance(new, list):
        yield from _in_order(field, [*map(str, old)], [*map(str, new)])
    else:
        yield _line(field, _value(old), _value(new), hidden=_hides(field, old, new))


def _quietly(field: str, old: Sequence[Spec], new: Sequence[Spec]) -> Iterator[str]:
    key = "name" if field == "env" else "path"
    before, after = {each[key]: each for each in old}, {each[key]: each for each in new}
    for name in dict.fromkeys((*before, *after)):
        subject = f"env.{name}" if field == "env" else f"files[{name}]"
        if name not in after:
            yield f"{subject} removed"
        elif name not in before:
            yield f"{subject} added"
        elif before[name] != after[name]:
            yield f"{subject} changed"


def _by_name(field: str, old: Sequence[Spec], new: Sequence[Spec]) -> Iterator[str]:
    before, after = {each["name"]: each for each in old}, {each["name"]: each for each in new}
    for name in dict.fromkeys((*before, *after)):
        yield from _differences(f"{field}[{name}]", before.get(name), after.get(name))


def _in_order(field: str, old: list[str], new: list[str]) -> Iterator[str]:
    """Item by item; what came or went in the middle does not make everything behind it look edited."""
    head = _alike(old, new)
    tail = min(_alike(old[::-1], new[::-1]), len(old) - head, len(new) - head)
    before, after = old[head : len(old) - tail], new[head : len(new) - tail]
    for index in range(max(len(before), len(after))):
        first, second = before[index : index + 1], after[index : index + 1]
        lead = (old[head + index - 1 : head + index], new[head + index - 1 : head + index])
        hidden = _hides(field, *first, *second, *(word for words in lead for word in words))
        yield _line(f"{field}[{head + index}]", *(_value(*each) for each in (first, second)), hidden=hidden)


def _alike(old: Sequence[str], new: Sequence[str]) -> int:
    return len(list(takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False))))


def _hides(field: str, *texts: object) -> bool:
    return field in FREE_TEXT and any(SECRETISH.search(str(each)) for each in texts)


def _line(subject: str, old: str, new: str, *, hidden: bool) -> str:
    if not hidden:
        return f"{subject}: {old} → {new}"
    return f"{subject} {'added' if old == UNSET else 'removed' if new == UNSET else 'changed'}"


def _value(value: Any = None) -> str:
    if value is None:
        return UNSET
    if isinstance(value, Mapping):
        return " ".join(_value(each) for each in value.values() if each) or UNSET
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return _short(", ".join(map(str, value))) or "none"
    return _short(str(value)) or '""'


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_VALUE else f"{line[: LONGEST_VALUE - 1]}…"
