"""Servers that may talk to each other: a small network for each pair, made and unmade as the two come and go.

    a, which names b as its peer            b
    ─────────────────────────────           ─────────────────────────────
    begins conversations (.2 to .7)   →     answers (.8 to .14), found under the name `b`

Who may begin is decided by the firewall from the address alone; nobody else is on that network. It has no way out.
"""

from __future__ import annotations

import hashlib
from asyncio import Lock
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any, Final

from toolkeeper.errors import Conflict, NotFound, Refused
from toolkeeper.node.docker.addresses import pair_address
from toolkeeper.node.docker.engine import Engine
from toolkeeper.node.docker.marks import INSTALLATION, NETWORK, PREFIX, Mark, marked
from toolkeeper.node.docker.networks import Network, Networks, endpoint_address, network_name

Json = dict[str, Any]

FROM: Final = PREFIX + "from"
TO: Final = PREFIX + "to"
NAMESPACE: Final = PREFIX + "namespace"


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """One server that may begin a conversation with another of its namespace."""

    namespace: str
    begins: str
    answers: str

    def network(self, installation: str) -> str:
        """The host's name of their network."""
        text = f"{self.namespace}/{self.begins}/{self.answers}"
        return f"{network_name(installation, 'peers')}_{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    def labels(self, installation: str) -> dict[str, str]:
        """What the network carries."""
        return {INSTALLATION: installation, NAMESPACE: self.namespace, FROM: self.begins, TO: self.answers}


@dataclass(frozen=True, slots=True)
class Member:
    """One container, as far as peers are concerned."""

    id: str
    mark: Mark
    addresses: dict[str, IPv4Address]
    """Network → its address there."""


@dataclass
class Peers:
    """The networks of pairs on this host. Raises what `Engine` raises."""

    engine: Engine
    networks: Networks
    _locks: defaultdict[str, Lock] = field(default_factory=lambda: defaultdict(Lock))

    async def converge(self, installation: str) -> None:
        """Have every pair with a beginning side connected, and no other. Changes nothing if that is so."""
        async with self._locks[installation]:
            members = await self._members(installation)
            wanted = pairs(member.mark for member in members)
            names = {pair.network(installation) for pair in wanted}
            for pair in sorted(wanted):
                await self._connect(pair, installation, members)
            for network in await self.networks.labelled(f"{INSTALLATION}={installation}", f"{NETWORK}=peers"):
                if network not in names:
                    await self._dissolve(network, members)

    async def _connect(self, pair: Pair, installation: str, members: list[Member]) -> None:
        name = pair.network(installation)
        sides = [
            (member, answers)
            for answers, server in ((False, pair.begins), (True, pair.answers))
            for member in members
            if (member.mark.namespace, member.mark.server) == (pair.namespace, server)
        ]
        lacking = [(member, answers) for member, answers in sides if name not in member.addresses]
        if not lacking:
            return
        network = await self.networks.ensure_named(name, "peers", pair.labels(installation))
        used = {member.addresses[name] for member, _ in sides if name in member.addresses}
        for member, answers in lacking:
            address = pair_address(network.subnet, used, answers=answers)
            if address is None:
                raise Refused(f"no address is left for {member.mark.server} in {name}", reason="CreateFailed")
            used.add(address)
            await self._join(network, member, address, pair.answers if answers else "")

    async def _join(self, network: Network, member: Member, address: IPv4Address, alias: str) -> None:
        try:
            await self.engine.call(
                self.engine.api.connect_container_to_network,
                member.id,
                network.name,
                ipv4_address=str(address),
                aliases=[alias] if alias else None,
            )
        except NotFound:  # the container, or the network under our feet: the next change looks again
            self.networks.forget(network.name)
        except Refused as exc:
            if "already exists in network" not in str(exc):
                raise

    async def _dissolve(self, name: str, members: list[Member]) -> None:
        for member in members:
            if name in member.addresses:
                try:
                    await self.engine.call(
                        self.engine.api.disconnect_container_from_network, member.id, name, force=True
                    )
                except (NotFound, Conflict):
                    continue
        await self.networks.remove(name)

    async def _members(self, installation: str) -> list[Member]:
        found = await self.engine.call(
            self.engine.api.containers, all=True, filters={"label": f"{INSTALLATION}={installation}"}
        )
        marks = ((each, marked(listed_name(each), each["Labels"])) for each in found)
        return [Member(each["Id"], mark, _addresses(each)) for each, mark in marks if mark is not None]


def pairs(marks: Iterable[Mark]) -> frozenset[Pair]:
    """The pairs whose beginning side is on this host."""
    return frozenset(Pair(mark.namespace, mark.server, peer) for mark in marks for peer in mark.peers)


def listed_name(container: Json) -> str:
    """The name of a container as `GET /containers/json` has it."""
    names = (str(name).removeprefix("/") for name in container["Names"])
    return next((name for name in names if "/" not in name), "")  # with a slash: what a link calls it


def _addresses(container: Json) -> dict[str, IPv4Address]:
    endpoints = container["NetworkSettings"]["Networks"]
    found = {name: endpoint_address(each) for name, each in endpoints.items()}
    return {name: address for name, address in found.items() if address is not None}
