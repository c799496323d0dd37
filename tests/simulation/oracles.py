"""The laws, watched from outside: what hosts and stores are made to do, not what the operator believes."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from toolkeeper.planning.naming import hash8
from toolkeeper.planning.observed import Snapshot
from toolkeeper.reconcile.ports import Resource
from toolkeeper.resources.conditions import find
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.meta import FORCE_DELETE
from toolkeeper.testing.fake_toolbox import FakeContainer, FakeToolbox

INSTALLATION = "test"
Identity = tuple[str, str]
"""(namespace, server)."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One law, broken."""

    law: int
    at: float
    what: str

    def __str__(self) -> str:
        return f"law {self.law} at {self.at:.2f} s: {self.what}"


@dataclass(slots=True)
class Oracles:
    """Everything that is checked while a run goes on. `now` tells the time; violations pile up in `found`."""

    toolboxes: dict[str, FakeToolbox]
    one_at_a_time: frozenset[str]
    """Names of the servers that must never run twice."""
    secrets: frozenset[str]
    found: list[Violation] = field(default_factory=list)
    writes: Counter[str] = field(default_factory=Counter)
    """Attempts to write, to stores and to hosts, by what."""
    polls: Counter[str] = field(default_factory=Counter)
    accepted: list[tuple[float, str, str, str]] = field(default_factory=list)
    """(when, toolbox, verb, container) of what hosts accepted."""
    told: dict[tuple[str, str], bool] = field(default_factory=dict)
    """(process, toolbox) → whether the last thing it was told there says anything about containers."""
    writer: dict[str, str] = field(default_factory=dict)
    """Toolbox → the process that claimed it last."""
    served: dict[tuple[str, str], float] = field(default_factory=dict)
    """(container name, container id) → when it last served."""
    wanted_at: dict[tuple[str, int], set[str]] = field(default_factory=lambda: defaultdict(set))
    """(uid, generation) → hash8 of what was wanted at that generation: a rotated secret is another one of the same."""
    _serving: dict[str, dict[Identity, list[FakeContainer]]] = field(
        default_factory=lambda: defaultdict(dict)
    )

    def violated(self, law: int, what: str) -> None:
        """Write it down."""
        self.found.append(Violation(law, asyncio.get_running_loop().time(), what))

    # Law 1.

    def host_changed(self, toolbox: FakeToolbox, now: float) -> None:
        """Called after every change of a host."""
        serving: dict[Identity, list[FakeContainer]] = {}
        if toolbox.powered:
            for each in toolbox.containers.values():
                if each.installation == INSTALLATION and each.serving:
                    serving.setdefault(each.key, []).append(each)
                    self.served[each.name, each.container_id] = now
        for gone in self._serving[toolbox.name].values():
            for each in gone:
                self.served[each.name, each.container_id] = now
        self._serving[toolbox.name] = serving
        for identity, here in serving.items():
            everywhere = len(here) + sum(
                len(box.get(identity, ())) for name, box in self._serving.items() if name != toolbox.name
            )
            # Two during a rollout, and one more where it moves to at the same time.
            most = 1 if identity[1] in self.one_at_a_time else 2 if everywhere == len(here) else 3
            if everywhere > most:
                self.violated(1, f"{everywhere} containers of {identity[1]} serve at a time")

    # Laws 2, 3 and 10.

    def polled(self, process: str, toolbox: str, snapshot: Snapshot | None) -> None:
        """A process was told something, or nothing, about a toolbox."""
        self.told[process, toolbox] = snapshot is not None and snapshot.runtime_ok

    def calling(self, process: str, toolbox: FakeToolbox, verb: str, name: str, now: float) -> None:
        """A process is about to write to a host."""
        self.writes[f"{verb} {server_of(name)}"] += 1
        if not self.told.get((process, toolbox.name), False):
            self.violated(3, f"{verb} {name} on {toolbox.name}, which was not observed")
        stranger = toolbox.strangers.get(name)
        found = toolbox.containers.get(name)
        foreign = found is not None and found.installation != INSTALLATION
        if stranger is not None or foreign or not name.startswith(f"tk_{INSTALLATION}_"):
            self.violated(2, f"{verb} {name} on {toolbox.name}, which is not ours")

    def called(self, process: str, toolbox: FakeToolbox, verb: str, name: str, now: float) -> None:
        """The host accepted it."""
        self.accepted.append((now, toolbox.name, verb, name))
        if self.writer.get(toolbox.name, process) != process:
            self.violated(
                10, f"{verb} {name} on {toolbox.name} by {process}; {self.writer[toolbox.name]} claimed it"
            )

    def claiming(self, process: str, toolbox: str, now: float, *, leads: bool) -> None:
        """A process that is awake is about to claim a toolbox."""
        self.writes["claim"] += 1
        if not leads:
            self.violated(10, f"{process} claims {toolbox} without leading")

    # Laws 6, 7 and 9.

    def wrote(self, resource: Resource, now: float) -> None:
        """A status was written."""
        text = resource.model_dump_json(include={"status"})
        self.said(text, f"the status of {resource.key}")
        if isinstance(resource, MCPServer):
            self._claims_no_more_than_was_seen(resource, now)

    def said(self, text: str, where: str) -> None:
        """Something was written where people read."""
        for secret in self.secrets:
            if secret in text:
                self.violated(9, f"a secret stands in {where}")

    def _claims_no_more_than_was_seen(self, server: MCPServer, now: float) -> None:
        status, meta = server.status, server.metadata
        self.wanted_at[meta.uid, meta.generation].add(hash8(status.wanted_hash))
        ready = find(status.conditions, "Ready")
        if ready is None or ready.status != "True":
            return
        served = self.served.get((status.container, status.container_id))
        current = any(
            each.name == status.container and each.container_id == status.container_id
            for box in self._serving.values()
            for each in box.get((server.metadata.namespace, server.metadata.name), ())
        )
        if served is None and not current:
            self.violated(7, f"{server.key} is said to be Ready, but {status.container} never answered")
        elif not current and served is not None and now - served > 90.0:
            self.violated(
                7,
                f"{server.key} is said to be Ready; {status.container} last answered {now - served:.0f} s ago",
            )
        version, generation = status.container.rpartition("_")[2], server.metadata.generation
        if (
            ready.observed_generation == generation
            and version not in self.wanted_at[server.metadata.uid, generation]
        ):
            self.violated(7, f"{server.key} is said to be Ready at its generation, but another version runs")

    def releasing(self, server: MCPServer, now: float) -> None:
        """The finalizer of a server is about to go."""
        forced = server.metadata.annotations.get(FORCE_DELETE) == "true"
        if forced or server.spec.deletion_policy == "Orphan":
            return
        for toolbox in self.toolboxes.values():
            here = toolbox.of(server.metadata.namespace, server.metadata.name)
            left = [each for each in here if each.installation == INSTALLATION]
            if left and toolbox.mood == "answers" and toolbox.docker_ok:
                self.violated(
                    6, f"the finalizer of {server.key} goes while {left[0].name} is on {toolbox.name}"
                )


def server_of(container: str) -> str:
    """The server in the name of a container or volume."""
    parts = container.split("_")
    return parts[3] if len(parts) > 4 else container
