"""Which resource somebody means: `server time`, `mcp/time`, `toolbox local`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import click

from toolkeeper.cli.views import KINDS
from toolkeeper.reconcile.ports import Resource
from toolkeeper.resources.kinds import KINDS as EVERY_KIND
from toolkeeper.resources.meta import Key


def kind_of(word: str) -> str:
    """The kind that people mean by that word. Raises UsageError naming the nearest one."""
    found = KINDS.get(word.lower())
    if found is None:
        close = difflib.get_close_matches(word.lower(), KINDS, n=1)
        hint = f"did you mean {close[0]}?" if close else "use server, toolbox or connection"
        raise click.UsageError(f"unknown kind '{word}'; {hint}")
    return found


def kind_and_names(words: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """`server a b` or `server/a server/b` → (MCPServer, (a, b)); a lone name that is no kind is a server's."""
    if not words:
        raise click.UsageError("name a kind, such as: server time")
    if any("/" in word for word in words):
        pairs = [word.partition("/") for word in words]
        kinds = {kind_of(kind) for kind, _, _ in pairs}
        if len(kinds) != 1 or not all(slash and name for _, slash, name in pairs):
            raise click.UsageError("name resources of one kind, as KIND NAME… or KIND/NAME…")
        return kinds.pop(), tuple(name for _, _, name in pairs)
    if words[0].lower() in KINDS or len(words) > 1:
        return kind_of(words[0]), words[1:]
    return "MCPServer", words


def kinds_and_names(words: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What to list: `servers,toolboxes` and `all` are whole kinds in that order; else one kind, and names if any."""
    first, slash, _ = words[0].partition("/")
    if "," not in first and first.lower() != "all":
        kind, names = kind_and_names(words) if slash or len(words) > 1 else (kind_of(first), ())
        return (kind,), names
    if slash or len(words) > 1:
        raise click.UsageError(
            "names go with one kind, such as: server time; several kinds are one word, such as: servers,toolboxes"
        )
    everything = tuple(EVERY_KIND)
    named = [everything if word.lower() == "all" else (kind_of(word),) for word in first.split(",")]
    return tuple(dict.fromkeys(kind for kinds in named for kind in kinds)), ()


def one(words: tuple[str, ...], namespace: str) -> Key:
    """Exactly one resource."""
    kind, names = kind_and_names(words)
    if len(names) != 1:
        raise click.UsageError(f"name exactly one {kind}")
    return Key(kind, namespace, names[0])


def missing(key: Key, there: Iterable[Resource]) -> str:
    """What to say when `key` does not exist."""
    names = [each.metadata.name for each in there if (each.kind, each.metadata.namespace) == key[:2]]
    close = difflib.get_close_matches(key.name, names, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"{key.kind} {key.name} does not exist in namespace {key.namespace}{hint}"
