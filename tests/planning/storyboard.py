"""Reads a golden scenario, plays it, and writes down what came of it.

A scenario is a file of two YAML documents. The first is written by people:

    title       what the scenario shows, as a sentence
    was         manifests that had been deployed and were at rest (optional); the observed state and all
                statuses start from there
    desired     manifests as they are now (a Toolbox `box` is there if none is named)
    observed    containers, each a mapping: `server`, `version` (`wanted`, or `was`), `at` (its toolbox), `state` and
                other fields of planning.observed.Container; `handshake` is `ok`, `none` or the reason of a failed
                one; `live` is what somebody edited; without `observed` the hosts are as `was` left them
    host        toolbox → fields of planning.observed.Snapshot, or `unreachable: <reason>`
    remembered  server → fields of status.memory; the words `wanted` and `was` stand for the hashes
    reported    server → other fields of its status
    lost        names of objects whose status was lost
    policy      fields of planning.world.Policy;  missing  secrets that do not resolve
    ownerless   container → seconds since it was first seen without an owner;  incomplete  a store was not listed whole

The second is the golden part, written by `UPDATE_GOLDEN=1 pytest tests/planning/test_scenarios.py`: the plan, what
status says before it is carried out, the events; then the steps that follow until there is nothing to do, and how
things stand then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from textwrap import indent
from typing import Any, TypeVar

import yaml

from planning.host import Fleet, Pass, fleet
from planning.laws import converge
from toolkeeper.planning.observed import Container, Unreachable
from toolkeeper.planning.world import Policy
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.meta import Key
from toolkeeper.resources.toolbox import Toolbox
from toolkeeper.testing.builders import (
    INSTALLATION,
    make_container,
    make_handshake,
    make_server,
    make_toolbox,
    references,
    rendered,
)

R = TypeVar("R", MCPServer, Toolbox)
Story = Mapping[str, Any]
SUMMARY = ("Ready", "Reconciling", "Stalled", "RolledBack", "Paused")
FILES = sorted((Path(__file__).parent / "scenarios").glob("*.yaml"))


def read(path: Path) -> tuple[str, Story, str]:
    """(the first document's text, its content, the golden text)."""
    told, _, golden = path.read_text(encoding="utf-8").partition("\n---\n")
    return told, yaml.safe_load(told), golden


def write(path: Path, told: str, golden: str) -> None:
    path.write_text(f"{told.rstrip()}\n---\n{golden}", encoding="utf-8")


def play(story: Story) -> str:
    """The golden text of a scenario. Every law is checked on the way."""
    world = stage(story)
    first = world.look()
    sections = [_block("plan", str(first))]
    statuses = dict(_statuses(world, first))
    sections.append(_mapping("status", {name: _told(each) for name, each in statuses.items()}))
    sections.append(_block("events", "\n".join(_events(first))))
    passes = converge(world)
    later = [f"{step}" for each in passes[1:] for step in each.steps]
    sections.append(_block("afterwards", "\n".join(later)))
    at_rest = {_name(key): _summary(each) for key, each in sorted(world.servers.items())}
    sections.append(_mapping("at_rest", at_rest))
    return "".join(sections)


# The stage --------------------------------------------------------------------------------------------------------


def stage(story: Story) -> Fleet:
    """The world as the scenario describes it."""
    was, now = _manifests(story.get("was", ())), _manifests(story["desired"])
    policy = Policy(INSTALLATION, **story.get("policy", {}))
    before = fleet(_servers(was), _toolboxes(was or now), policy=policy)
    converge(before)
    before.pass_time(600)
    lost = set(story.get("lost", ()))
    world = Fleet(
        servers={each.key: _with_status(each, before.servers, lost) for each in _servers(now)},
        toolboxes={each.key: _with_status(each, before.toolboxes, lost) for each in _toolboxes(now)},
        hosts={},
        policy=policy,
        complete=not story.get("incomplete", False),
        clock=before.clock,
    )
    hosts = fleet((), world.toolboxes.values(), policy=policy).hosts
    world.hosts.update({key: before.hosts.get(key, host) for key, host in hosts.items()})
    _remember(story, world, before)
    _report(story, world)
    _observe(story, world, before)
    missing = set(story.get("missing", ()))
    needed = {reference for each in world.servers.values() for reference in references(each)}
    world.secrets = dict.fromkeys(needed - missing, str(story.get("secret_version", "1")))
    return world


def _manifests(documents: Iterable[Mapping[str, Any]]) -> list[MCPServer | Toolbox]:
    return [_resource(each) for each in documents]


def _resource(document: Mapping[str, Any]) -> MCPServer | Toolbox:
    return (MCPServer if document["kind"] == "MCPServer" else Toolbox).model_validate(document)


def _servers(resources: Iterable[object]) -> list[MCPServer]:
    return [each for each in resources if isinstance(each, MCPServer)]


def _toolboxes(resources: Iterable[object]) -> list[Toolbox]:
    return [each for each in resources if isinstance(each, Toolbox)] or [make_toolbox()]


def _with_status(each: R, before: Mapping[Key, R], lost: set[str]) -> R:
    known = before.get(each.key)
    if known is None or each.metadata.name in lost:
        return each
    return each.model_copy(update={"status": known.status})


def _remember(story: Story, world: Fleet, before: Fleet) -> None:
    for name, fields in story.get("remembered", {}).items():
        key = next(each for each in world.servers if each.name == name)
        server, hashes = world.servers[key], {"wanted": rendered(world.servers[key]).hash}
        if key in before.servers:
            hashes["was"] = rendered(before.servers[key]).hash
        found = {field: hashes.get(value, value) for field, value in fields.items()}
        memory = server.status.memory.model_copy(update=found)
        status = server.status.model_copy(update={"memory": memory, "wanted_hash": hashes["wanted"]})
        world.servers[key] = server.model_copy(update={"status": status})


def _report(story: Story, world: Fleet) -> None:
    for name, fields in story.get("reported", {}).items():
        key = next(each for each in world.servers if each.name == name)
        server = world.servers[key]
        world.servers[key] = server.model_copy(update={"status": server.status.model_copy(update=fields)})


def _observe(story: Story, world: Fleet, before: Fleet) -> None:
    """Put on the hosts what the scenario says is there; where it says nothing, they stay as they were."""
    default = min(world.hosts)
    if "observed" in story:
        for key, host in world.hosts.items():
            known = {each.name: each for each in host.snapshot.containers}
            there = [each for each in story["observed"] if each.get("at", default.name) == key.name]
            containers = tuple(_container(each, world, before, known) for each in there)
            volumes = {volume for each in containers for volume in each.volumes} | set(host.snapshot.volumes)
            host.snapshot = replace(host.snapshot, containers=containers, volumes=tuple(sorted(volumes)))
    for name, given in story.get("host", {}).items():
        host = next(host for key, host in world.hosts.items() if key.name == name)
        fields = _tuples(given)
        reason = fields.pop("unreachable", None)
        if reason is not None:
            host.silence = Unreachable(reason, "no answer within 5 s")
        host.snapshot = replace(host.snapshot, **fields)
    for name, seconds in story.get("ownerless", {}).items():
        found = next(
            each.name
            for host in world.hosts.values()
            for each in host.snapshot.containers
            if each.server == name
        )
        world.orphans[default] = {**world.orphans.get(default, {}), found: world.clock - seconds}


def _container(
    told: Mapping[str, Any], world: Fleet, before: Fleet, known: Mapping[str, Container]
) -> Container:
    fields = _tuples(told)
    fields.pop("at", None)
    name, version = fields.pop("server"), fields.pop("version", "wanted")
    servers = before.servers if version == "was" else world.servers
    server = next((each for key, each in servers.items() if key.name == name), None) or make_server(name)
    live, answer = fields.pop("live", {}), fields.pop("handshake", None)
    made = make_container(server, **{"secrets": None, "state": "running"} | fields)
    old = known.get(made.name)
    if old is not None:
        kept: dict[str, Any] = {
            "container_id": old.container_id,
            "address": old.address,
            "run_id": old.run_id,
        }
        made = replace(made, **{field: value for field, value in kept.items() if field not in fields})
    if answer is not None:
        handshake = (
            None
            if answer == "none"
            else make_handshake(answer in ("ok", "AuthRequired"), answer.removeprefix("ok"))
        )
        made = replace(made, handshake=handshake)
    if live:
        assert made.live is not None, f"nothing live about {told}"
        made = replace(made, live=replace(made.live, **_tuples(live)))
    return made


def _tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


# The golden text --------------------------------------------------------------------------------------------------


def _statuses(world: Fleet, found: Pass) -> Iterator[tuple[str, MCPServer | Toolbox]]:
    """Every server as it is reported now, and the toolboxes that are reported anew."""
    for key in sorted(world.servers):
        if key not in found.released:
            yield _name(key), found.servers.get(key, world.servers[key])
    for key, each in sorted(found.toolboxes.items()):
        before, after = world.toolboxes[key].status, each.status
        if (before.conditions, before.orphans, before.disowned) != (
            after.conditions,
            after.orphans,
            after.disowned,
        ):
            yield _name(key), each


def _name(key: Key) -> str:
    return f"{key.kind} {key.namespace}/{key.name}"


def _told(resource: MCPServer | Toolbox) -> str:
    lines = [_headline(resource)]
    for each in resource.status.conditions:
        behind = each.observed_generation != resource.metadata.generation
        of = f" (of generation {each.observed_generation})" if behind else ""
        lines.append(
            f"{each.type}={each.status} {each.reason}{of}" + (f": {each.message}" if each.message else "")
        )
    return "\n".join(lines)


def _headline(resource: MCPServer | Toolbox) -> str:
    if isinstance(resource, Toolbox):
        status = resource.status
        counts = f"{status.ready} of {status.servers} ready"
        lists = {"orphans": status.orphans, "disowned": status.disowned}
        return counts + "".join(f"; {word}: {', '.join(names)}" for word, names in lists.items() if names)
    return f"{resource.status.phase} {resource.status.endpoint}".rstrip()


def _events(found: Pass) -> Iterator[str]:
    for each in found.events:
        yield f"{each.type} {each.reason} {each.key.name}" + (f": {each.message}" if each.message else "")


def _summary(server: MCPServer) -> str:
    shown = [each for each in server.status.conditions if each.type in SUMMARY]
    return ", ".join([server.status.phase, *(f"{each.type}={each.status} {each.reason}" for each in shown)])


def _block(title: str, text: str) -> str:
    return f"{title}: |\n{indent(text, '  ')}\n" if text else f"{title}: nothing\n"


def _mapping(title: str, texts: Mapping[str, str]) -> str:
    if not texts:
        return f"{title}: nothing\n"
    return f"{title}:\n" + "".join(indent(_block(name, text), "  ") for name, text in texts.items())
