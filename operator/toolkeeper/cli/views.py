"""Resources as people read them: rows of `get`, the text of `describe`. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from toolkeeper.cli.output import age, table
from toolkeeper.planning.edits import change, difference
from toolkeeper.reconcile.ports import Resource
from toolkeeper.resources.agentconnection import AgentConnection
from toolkeeper.resources.conditions import Condition, find
from toolkeeper.resources.mcpserver import MCPServer, RolloutRecord
from toolkeeper.resources.meta import Key
from toolkeeper.resources.toolbox import Toolbox


@dataclass(frozen=True, slots=True)
class Happening:
    """One line of events."""

    at: datetime
    count: int
    type: str
    reason: str
    message: str


SHORT_MESSAGE = 60
"""Characters of a message that may be said twice in one description."""
KINDS: dict[str, str] = {
    "mcpserver": "MCPServer", "mcpservers": "MCPServer", "mcp": "MCPServer", "server": "MCPServer",
    "servers": "MCPServer",
    "toolbox": "Toolbox", "toolboxes": "Toolbox", "tbx": "Toolbox",
    "agentconnection": "AgentConnection", "agentconnections": "AgentConnection", "agc": "AgentConnection",
    "connection": "AgentConnection", "connections": "AgentConnection",
}  # fmt: skip
"""What people may call a kind: singular, plural, the short names of the CRDs."""


def ready_word(conditions: Iterable[Condition]) -> tuple[str, str]:
    """(`True`/`False`/`Unknown`, reason) of the summary condition; `-` where nothing is to be ready."""
    conditions = tuple(conditions)
    found = find(conditions, "Ready")
    if found is not None:
        return found.status, found.reason
    resting = find(conditions, "Deployed") or find(conditions, "Authorized")
    return ("-", resting.reason) if resting is not None else ("Unknown", "NotObserved")


def _server_row(server: MCPServer, now: datetime, wide: bool) -> list[str]:
    status = server.status
    ready, reason = ready_word(status.conditions)
    row = [
        server.metadata.name, ready, status.phase, reason, status.toolbox or "-", str(len(status.tools)),
        str(status.restarts), age(server.metadata.creation_timestamp, now),
    ]  # fmt: skip
    if wide:
        row += [source(server), status.era or "-", status.endpoint or "-", status.container or "-"]
    return row


def _toolbox_row(toolbox: Toolbox, now: datetime, wide: bool) -> list[str]:
    status = toolbox.status
    ready, reason = ready_word(status.conditions)
    row = [
        toolbox.metadata.name, ready, reason, status.runtime or "-", f"{status.ready}/{status.servers}",
        str(status.foreign), age(toolbox.metadata.creation_timestamp, now),
    ]  # fmt: skip
    return row + ([toolbox.spec.endpoint, status.agent_version or "-"] if wide else [])


def _connection_row(connection: AgentConnection, now: datetime, wide: bool) -> list[str]:
    ready, reason = ready_word(connection.status.conditions)
    row = [
        connection.metadata.name, ready, reason, connection.spec.agent, connection.spec.server_ref or "(selector)",
        str(len(connection.status.tools)), age(connection.metadata.creation_timestamp, now),
    ]  # fmt: skip
    return row + ([connection.status.endpoint or "-"] if wide else [])


_COLUMNS: dict[str, tuple[Sequence[str], Sequence[str], Callable[[Any, datetime, bool], list[str]]]] = {
    "MCPServer": (
        ("NAME", "READY", "PHASE", "REASON", "TOOLBOX", "TOOLS", "RESTARTS", "AGE"),
        ("SOURCE", "ERA", "ENDPOINT", "CONTAINER"),
        _server_row,
    ),
    "Toolbox": (
        ("NAME", "READY", "REASON", "RUNTIME", "SERVERS", "FOREIGN", "AGE"),
        ("ENDPOINT", "VERSION"),
        _toolbox_row,
    ),
    "AgentConnection": (
        ("NAME", "READY", "REASON", "AGENT", "SERVER", "TOOLS", "AGE"),
        ("ENDPOINT",),
        _connection_row,
    ),
}


def listing(
    kind: str,
    resources: Sequence[Resource],
    now: datetime,
    *,
    wide: bool,
    namespaces: bool,
    mixed: bool = False,
    commits: Mapping[Key, str] | None = None,
) -> tuple[list[str], list[list[str]]]:
    """Header and rows of `get KIND`. `mixed`: beside other kinds, so names say theirs, as kubectl's do.

    `commits` are those that declare the resources, as people say them.
    """
    narrow, more, row = _COLUMNS[kind]
    header = [*narrow, *(more if wide else ())]
    rows = [row(each, now, wide) for each in resources]
    if mixed:
        rows = [[f"{kind.lower()}/{name}", *cells] for name, *cells in rows]
    if wide and commits:
        header.append("COMMIT")
        rows = [[*cells, commits.get(each.key) or "-"] for each, cells in zip(resources, rows, strict=True)]
    if namespaces:
        header.insert(0, "NAMESPACE")
        rows = [[each.metadata.namespace, *cells] for each, cells in zip(resources, rows, strict=True)]
    return header, rows


def source(server: MCPServer) -> str:
    """Where the server comes from, in one word."""
    spec = server.spec
    if spec.image is not None:
        return spec.image
    if spec.package is not None:
        return f"{spec.package.registry}:{spec.package.name}@{spec.package.version}"
    if spec.catalog is not None:
        return f"catalog:{spec.catalog.name}@{spec.catalog.version}"
    return spec.remote.url if spec.remote is not None else "-"


def describe(
    resource: Resource,
    events: Sequence[Happening],
    now: datetime,
    remedy: Callable[[str], str],
    origin: Sequence[str] = (),
) -> str:
    """Everything about one resource, with the remedy under each condition that is not as it should be.

    `origin`: lines about where its declaration comes from.
    """
    lines = [
        f"Name:         {resource.metadata.name}",
        f"Namespace:    {resource.metadata.namespace}",
        f"Kind:         {resource.kind}",
        f"Generation:   {resource.metadata.generation} (observed {resource.status.observed_generation})",
    ]
    if resource.metadata.deletion_timestamp is not None:
        lines.append(f"Deleting:     since {age(resource.metadata.deletion_timestamp, now)}")
    if isinstance(resource, MCPServer):
        lines += _server_facts(resource, now)
    elif isinstance(resource, Toolbox):
        lines += _toolbox_facts(resource)
    else:
        lines += [f"Agent:        {resource.metadata.namespace}/{resource.spec.agent}"]
    lines += origin
    lines += ["", "Conditions:", *_conditions(resource.status.conditions, now, remedy)]
    lines += ["", "Events:"]
    if events:
        happened = [
            (age(each.at, now), str(each.count), each.type, each.reason, each.message) for each in events
        ]
        header = ("AGE", "COUNT", "TYPE", "REASON", "MESSAGE")
        lines += [f"  {line}" for line in table(header, happened).splitlines()]
    else:
        lines.append("  none")
    return "\n".join(lines)


def _server_facts(server: MCPServer, now: datetime) -> list[str]:
    status = server.status
    facts = [
        ("Source", source(server)), ("Toolbox", status.toolbox), ("Phase", status.phase),
        ("Endpoint", status.endpoint), ("Container", status.container), ("Container id", status.container_id[:12]),
        ("Image", " ".join(filter(None, (status.image, status.image_digest)))),
        ("Spec hash", _hashes(server)), ("Edited", _edited(server)),
        ("Server", " ".join(filter(None, (status.server_name, status.server_version)))),
        ("Protocol", " ".join(filter(None, (status.protocol_version, status.era)))),
        ("Tools", ", ".join(status.tools)), ("Tools hash", status.tools_hash),
        ("Restarts", str(status.restarts) if status.restarts else ""),
        ("Exit code", "" if status.exit_code is None else str(status.exit_code)),
    ]  # fmt: skip
    lines = [f"{name + ':':<13} {value}" for name, value in facts if value]
    if status.last_log:
        lines += ["Last log:", *(f"  | {line}" for line in status.last_log)]
    if status.history:
        lines += ["History:", *(f"  {line}" for line in _history(status.history, now).splitlines())]
    return lines


def _history(history: Sequence[RolloutRecord], now: datetime) -> str:
    """The rollouts, newest first, each with what it changed of the version that served before it."""
    rows: list[tuple[str, ...]] = []
    served: RolloutRecord | None = None
    for each in history:
        edited = ""
        if served is not None and served.hash != each.hash:
            edited = difference(served, each.spec, each.restart)
        row = (
            f"{each.revision}",
            age(each.finished_at, now),
            each.outcome,
            each.image or "-",
            each.reason or "-",
        )
        rows.append((*row, edited or "-"))
        served = each if each.outcome == "Succeeded" else served
    return table(("REVISION", "AGE", "OUTCOME", "SOURCE", "REASON", "CHANGE"), reversed(rows))


def _edited(server: MCPServer) -> str:
    """What the wanted version has that the running one has not."""
    status = server.status
    if not status.running_hash or status.running_hash == status.wanted_hash:
        return ""
    return change(server, status.running_hash)


def _hashes(server: MCPServer) -> str:
    status = server.status
    if not status.running_hash or status.running_hash == status.wanted_hash:
        return f"{status.running_hash[:18]} (as wanted)" if status.running_hash else ""
    failed = " (failed)" if status.memory.failed_hash == status.wanted_hash else ""
    return f"running {status.running_hash[:18]}, wanted {status.wanted_hash[:18]}{failed}"


def _toolbox_facts(toolbox: Toolbox) -> list[str]:
    status = toolbox.status
    facts = [
        ("Endpoint", toolbox.spec.endpoint), ("Agent", f"{status.dialect} {status.agent_version}".strip()),
        ("Runtime", status.runtime), ("Servers", f"{status.ready} ready of {status.servers}"),
        ("Foreign", f"{status.foreign} container{'' if status.foreign == 1 else 's'}, never touched"),
        ("Features", ", ".join(status.features)),
        ("Orphans", ", ".join(status.orphans)),
    ]  # fmt: skip
    return [f"{name + ':':<13} {value}" for name, value in facts if value]


def _conditions(conditions: Iterable[Condition], now: datetime, remedy: Callable[[str], str]) -> list[str]:
    """A line each, and below it what to do; what was said further up is not said again."""
    lines: list[str] = []
    said: dict[tuple[str, str], str] = {}
    for each in conditions:
        since = age(each.last_transition_time, now)
        before = said.get((each.reason, each.message)) if len(each.message) > SHORT_MESSAGE else None
        message = f"as {before} says" if before else each.message
        lines.append(f"  {each.type:<16} {each.status:<8} {each.reason:<24} {since:>5}  {message}".rstrip())
        good = "False" if each.type in {"Stalled", "Reconciling", "RolledBack"} else "True"
        # Why a version failed is one thing; what is done about it after a rollback is the same for all.
        advice = remedy("RolledBack" if each.type == "RolledBack" else each.reason)
        if advice and each.status != good and not before:
            lines.append(f"  {'':<16} → {advice}")
        said.setdefault((each.reason, each.message), each.type)
    return lines or ["  none yet"]
