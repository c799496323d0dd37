"""What `up` shows while things converge: one line per server, from its status and what the host says. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from toolkeeper.planning.observed import Container
from toolkeeper.resources.conditions import find, is_true
from toolkeeper.resources.mcpserver import MCPServer


@dataclass(frozen=True, slots=True)
class Line:
    """One server at one moment."""

    name: str
    mark: str
    """`ready`, `busy`, `failed` or `idle`."""
    state: str
    detail: str

    def __str__(self) -> str:
        return f"{self.name}  {self.state}  {self.detail}".rstrip()


def lines(servers: Sequence[MCPServer], containers: Sequence[Container]) -> list[Line]:
    """One line per server, in the order given."""
    by_server: dict[tuple[str, str], list[Container]] = {}
    for each in containers:
        by_server.setdefault((each.namespace, each.server), []).append(each)
    return [
        _line(name, server, by_server.get((server.metadata.namespace, server.metadata.name), []))
        for name, server in zip(names(servers), servers, strict=True)
    ]


def names(servers: Sequence[MCPServer]) -> list[str]:
    """What each is called: with its namespace, where there are several."""
    if len({each.metadata.namespace for each in servers}) <= 1:
        return [each.metadata.name for each in servers]
    return [f"{each.metadata.namespace}/{each.metadata.name}" for each in servers]


def _line(name: str, server: MCPServer, containers: Sequence[Container]) -> Line:
    status = server.status
    busy = next((each.progress for each in containers if each.progress), "")
    if busy:
        return Line(name, "busy", busy.split(" ", 1)[0].rstrip(":"), busy.partition(" ")[2])
    if arrived(server):
        return Line(name, "ready", "ready", f"{where(server)}  {tools(server)}")
    stalled = find(status.conditions, "Stalled")
    if stalled is not None and stalled.status == "True":
        meanwhile = "; the previous version serves" if is_true(status.conditions, "Ready") else ""
        return Line(name, "failed", stalled.reason, stalled.message + meanwhile)
    if not server.spec.running and status.phase == "stopped":
        return Line(name, "idle", "stopped", "")
    ready = find(status.conditions, "Ready")
    if ready is None:
        return Line(name, "busy", "waiting", "")
    return Line(name, "busy", _in_words(ready.reason), ready.message)


def _in_words(reason: str) -> str:
    """`WaitingForSurge` as the hosts write their states: waiting for surge."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", reason).lower()


def arrived(server: MCPServer) -> bool:
    """Whether the newest spec serves; a previous version that still does is not that."""
    ready = find(server.status.conditions, "Ready")
    serves = ready is not None and ready.status == "True" and ready.reason != "PreviousVersion"
    return serves and settled(server)


def hopeless(servers: Sequence[MCPServer]) -> bool:
    """Whether nothing more will arrive before somebody acts: each one has, or waits for somebody, and one does."""
    waiting = [each for each in servers if not arrived(each)]
    return bool(waiting) and all(settled(each) and _waits_for_somebody(each) for each in waiting)


def _waits_for_somebody(server: MCPServer) -> bool:
    """Stalled, or without what only a manifest brings: on a cluster that may be on its way, in a folder it is not."""
    declared = (find(server.status.conditions, each) for each in ("Placed", "SecretsResolved"))
    return is_true(server.status.conditions, "Stalled") or any(
        each is not None and each.status == "False" for each in declared
    )


def settled(server: MCPServer) -> bool:
    """Whether status speaks of the newest spec."""
    return server.status.observed_generation == server.metadata.generation


def where(server: MCPServer) -> str:
    """The endpoint, or what there is instead of one."""
    return server.status.endpoint or server.spec.transport


def tools(server: MCPServer, most: int = 6) -> str:
    """`13 tools: a, b, …`."""
    names = server.status.tools
    shown = ", ".join(names[:most]) + (", …" if len(names) > most else "")
    return f"{len(names)} {'tool' if len(names) == 1 else 'tools'}" + (f": {shown}" if shown else "")


def document(servers: Sequence[MCPServer]) -> Mapping[str, object]:
    """The result of `up --check -o json`."""
    return {
        "ready": all(map(arrived, servers)),
        "servers": [
            {
                "name": each.metadata.name,
                "namespace": each.metadata.namespace,
                "ready": arrived(each),
                "state": _line("", each, ()).state,
                "message": "" if arrived(each) else _line("", each, ()).detail,
                "endpoint": each.status.endpoint or None,
                "transport": each.spec.transport,
                "tools": list(each.status.tools),
                "era": each.status.era,
            }
            for each in servers
        ],
    }
