"""Which toolbox a server belongs to. Where it is beats where it would be put; not knowing beats guessing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from toolkeeper.planning.force import misspelt
from toolkeeper.planning.globs import admits
from toolkeeper.planning.load import NOTHING, Load, fits, load_of, room
from toolkeeper.planning.observed import Observation, Snapshot, Unreachable
from toolkeeper.planning.situation import never_twice
from toolkeeper.planning.world import Policy
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.meta import FORCE_DELETE, Key
from toolkeeper.resources.toolbox import Toolbox


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one server belongs, or why nowhere."""

    toolbox: Key | None
    reason: str
    message: str = ""
    released: bool = False
    """It is deleted and can have left nothing anywhere: its finalizer may go without a pass."""


@dataclass(slots=True)
class _Map:
    """What is known of all toolboxes, and how full they become while servers are placed one after the other."""

    toolboxes: Mapping[Key, Toolbox]
    observations: Mapping[Key, Observation]
    holders: Mapping[tuple[str, str], tuple[Key, ...]]
    """(namespace, server) → toolboxes that have (or had, when last seen) a container of it."""
    loads: dict[Key, Load] = field(default_factory=dict)

    def add(self, key: Key, server: MCPServer) -> None:
        self.loads[key] = self.loads.get(key, NOTHING) + load_of(server)


def place(
    servers: Sequence[MCPServer],
    toolboxes: Sequence[Toolbox],
    observations: Mapping[Key, Observation],
    policy: Policy,
) -> Mapping[Key, Placement]:
    """A placement for each server; the order of the arguments does not matter.

    What has a place already comes first, so that a newcomer never takes it away.
    """
    known = _Map({each.key: each for each in toolboxes}, observations, _holders(observations, policy))
    placements: dict[Key, Placement] = {}
    newcomers: list[MCPServer] = []
    for server in sorted(servers, key=lambda each: each.key):
        settled = _settled(server, known)
        if settled is None:
            newcomers.append(server)
            continue
        placements[server.key] = settled
        if settled.toolbox is not None:
            known.add(settled.toolbox, server)
    for server in newcomers:
        placement = _newcomer(server, known)
        placements[server.key] = placement
        if placement.toolbox is not None:
            known.add(placement.toolbox, server)
    return placements


def _holders(
    observations: Mapping[Key, Observation], policy: Policy
) -> Mapping[tuple[str, str], tuple[Key, ...]]:
    holders: dict[tuple[str, str], list[Key]] = {}
    for key, seen in sorted(observations.items()):
        if isinstance(seen, Snapshot):
            held = {(c.namespace, c.server) for c in seen.containers if c.installation == policy.installation}
        else:
            held = set(seen.held or ())
        for each in held:
            holders.setdefault(each, []).append(key)
    return {identity: tuple(keys) for identity, keys in holders.items()}


# Which toolboxes come into question ---------------------------------------------------------------------------------


def _admitted(server: MCPServer, toolbox: Toolbox) -> bool:
    namespace = server.metadata.namespace
    return toolbox.metadata.namespace == namespace or admits(toolbox.spec.allowed_namespaces, namespace)


def _candidates(server: MCPServer, known: _Map) -> list[Toolbox]:
    """The toolboxes that the spec names, by reference or by labels, and that admit its namespace."""
    if server.toolbox_key is not None:
        named = known.toolboxes.get(server.toolbox_key)
        return [named] if named is not None and _admitted(server, named) else []
    wanted = (server.spec.toolbox_selector or {}).items()
    boxes = (each for _, each in sorted(known.toolboxes.items()))
    return [each for each in boxes if _admitted(server, each) and wanted <= each.metadata.labels.items()]


def _is_here(toolbox: Toolbox, server: MCPServer, known: _Map) -> bool:
    return toolbox.key in known.holders.get((server.metadata.namespace, server.metadata.name), ())


def _is_remembered(toolbox: Toolbox, server: MCPServer) -> bool:
    return server.status.toolbox == f"{toolbox.metadata.namespace}/{toolbox.metadata.name}"


def _stays_put(server: MCPServer) -> bool:
    return bool(server.spec.volumes)


# Servers that have a place ------------------------------------------------------------------------------------------


def _settled(server: MCPServer, known: _Map) -> Placement | None:
    """Where the server belongs without choosing; None if a place must be found for it."""
    if server.metadata.deletion_timestamp is not None:
        return _deleted(server, known)
    if (
        server.spec.remote is not None
        and server.spec.toolbox_ref is None
        and server.spec.toolbox_selector is None
    ):
        return Placement(None, "SourceUnsupported", "reaching a remote server needs the gateway")
    candidates = _candidates(server, known)
    if server.spec.toolbox_ref is not None:
        return _referenced(server, candidates, known)
    return _stuck_to(server, candidates, known)


def _deleted(server: MCPServer, known: _Map) -> Placement:
    """Where to clean up: where it is, else where it was, else where it should have been."""
    boxes = [each for _, each in sorted(known.toolboxes.items())]
    ranked = [
        *(each for each in boxes if _is_here(each, server, known) and _is_remembered(each, server)),
        *(each for each in boxes if _is_here(each, server, known)),
        *(each for each in boxes if _is_remembered(each, server)),
    ]
    if ranked:
        return Placement(ranked[0].key, "Placed")
    candidates = _candidates(server, known)
    unseen = _unseen(candidates, known)
    if unseen:
        return Placement(unseen[0].key, "Placed")
    if not server.status.toolbox or server.metadata.given_up:
        return Placement(None, "NothingLeft", "nothing of it is left on any toolbox", released=True)
    sentence = (
        f"toolbox {server.status.toolbox} is gone; annotate {FORCE_DELETE}=true to let go without cleaning"
    )
    return Placement(None, "DeletionBlocked", f"{sentence}{misspelt(server.metadata)}")


def _referenced(server: MCPServer, candidates: Sequence[Toolbox], known: _Map) -> Placement | None:
    for toolbox in candidates:
        if _is_here(toolbox, server, known) or _is_remembered(toolbox, server):
            return Placement(toolbox.key, "Placed")
    if candidates:
        return None
    if server.toolbox_key in known.toolboxes:
        namespace = server.metadata.namespace
        sentence = f"spec.allowedNamespaces of toolbox {server.spec.toolbox_ref} does not admit {namespace}"
        return Placement(None, "NamespaceNotAllowed", sentence)
    return Placement(None, "ToolboxNotFound", f"there is no toolbox {server.spec.toolbox_ref}")


def _stuck_to(server: MCPServer, candidates: Sequence[Toolbox], known: _Map) -> Placement | None:
    """Where a server placed by labels is already. A silent toolbox keeps what it had."""
    here = [each for each in candidates if _is_here(each, server, known)]
    remembered = [each for each in candidates if _is_remembered(each, server)]
    ranked = [each for each in here if each in remembered] + here + remembered
    if not ranked and _stays_put(server):
        # The labels were edited away from under its volumes.
        ranked = [box for _, box in sorted(known.toolboxes.items()) if _is_here(box, server, known)]
    staying = [each for each in ranked if not each.spec.drain or _stays_put(server)]
    return Placement(staying[0].key, "Placed") if staying else None


# Servers that need a place ------------------------------------------------------------------------------------------


def _newcomer(server: MCPServer, known: _Map) -> Placement:
    """The candidate with the most room; where it drains from, if there is no other."""
    candidates = _candidates(server, known)
    if not candidates:
        return Placement(None, "NoToolboxMatches", "no toolbox has these labels and admits this namespace")
    if waiting := _waits(server, candidates, known):
        return waiting
    draining = [each for each in candidates if each.spec.drain and _is_here(each, server, known)]
    refusals: dict[str, tuple[str, str]] = {}
    free: list[tuple[float, Key]] = []
    for toolbox in candidates:
        why = _cannot_take(toolbox, server, known)
        if why is not None:
            refusals[toolbox.metadata.name] = why
        else:
            seen = known.observations.get(toolbox.key)
            load = known.loads.get(toolbox.key, NOTHING) + load_of(server)
            free.append((-room(toolbox, seen, load), toolbox.key))
    if free:
        return Placement(min(free)[1], "Placed")
    if draining:
        return Placement(draining[0].key, "Placed")
    reasons = {reason for reason, _ in refusals.values()}
    told = "; ".join(f"{name}: {why}" for name, (_, why) in sorted(refusals.items()))
    return Placement(None, reasons.pop() if len(reasons) == 1 else "NoToolboxFits", told)


def _waits(server: MCPServer, candidates: Sequence[Toolbox], known: _Map) -> Placement | None:
    """Not knowing where it may run already; None when nothing of that matters is unknown."""
    suspects = [
        *(candidates if server.spec.toolbox_selector is not None else ()),
        *_former_home(server, known),
    ]
    names = sorted({each.metadata.name for each in _unseen(suspects, known)})
    if not names:
        return None
    return Placement(
        None, "WaitingForToolboxes", f"it may already run on one that was not seen yet: {', '.join(names)}"
    )


def _former_home(server: MCPServer, known: _Map) -> list[Toolbox]:
    """Where a server that must never run twice was last: unless that was seen without it, it may still run there."""
    boxes = known.toolboxes.values() if never_twice(server.spec) else ()
    return [each for each in boxes if _is_remembered(each, server)]


def _unseen(candidates: Sequence[Toolbox], known: _Map) -> list[Toolbox]:
    """Those of which nobody knows what they hold."""
    return [each for each in candidates if not _was_seen(known.observations.get(each.key))]


def _was_seen(seen: Observation | None) -> bool:
    return isinstance(seen, Snapshot) or (isinstance(seen, Unreachable) and seen.held is not None)


def _cannot_take(toolbox: Toolbox, server: MCPServer, known: _Map) -> tuple[str, str] | None:
    """(reason, message) of why nothing new is placed there; None when it is welcome."""
    if toolbox.metadata.deletion_timestamp is not None:
        return "ToolboxDeleting", "it is being deleted"
    if toolbox.spec.paused:
        return "ToolboxPaused", "spec.paused is true"
    if toolbox.spec.drain:
        return "ToolboxDraining", "spec.drain is true"
    seen = known.observations.get(toolbox.key)
    if server.spec.toolbox_selector is not None and not isinstance(seen, Snapshot):
        return "ToolboxUnreachable", "it does not answer"
    why = fits(toolbox, seen, known.loads.get(toolbox.key, NOTHING), load_of(server))
    return None if why is None else ("InsufficientCapacity", why)
