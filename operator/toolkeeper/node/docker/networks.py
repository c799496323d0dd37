"""The two networks of an installation: `internal` without a way out, `egress` with one.

On neither of them do containers reach each other (`enable_icc=false`); the host reaches them all; nothing is published.

A network per server would end at thirty (Docker's own address pool) and cost start-up time; these cost nothing.
"""

from __future__ import annotations

import hashlib
import random
import socket
from asyncio import Lock
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, Final

from docker.types import IPAMConfig, IPAMPool

from toolkeeper.errors import Conflict, NotFound, Refused
from toolkeeper.node.docker.addresses import AddressPool, Kind, carve
from toolkeeper.node.docker.engine import Engine
from toolkeeper.node.docker.marks import INSTALLATION, NETWORK

Json = dict[str, Any]

BRIDGES: Final[Mapping[Kind, str]] = {"internal": "tkbri", "egress": "tkbre", "peers": "tkbrp"}
"""How the names of bridges begin: the firewall tells ours from others, and their kinds, by name alone."""
BRIDGE_NAME: Final = "com.docker.network.bridge.name"
ICC: Final = "com.docker.network.bridge.enable_icc"
MTU: Final = "com.docker.network.driver.mtu"
SMALLEST_RANGE: Final = 18


@dataclass
class Network:
    """One network of ours, as it is on the host."""

    name: str
    id: str
    kind: Kind
    subnet: IPv4Network
    gateway: IPv4Address
    pool: AddressPool


@dataclass
class Networks:
    """The networks of this node. Raises what `Engine` raises."""

    engine: Engine
    space: IPv4Network
    """Where all addresses of containers come from."""
    chance: random.Random
    routes: Path = Path("/proc/net/route")
    on_made: Callable[[], Awaitable[None]] | None = None
    """Called after a network was made, before anybody is on it."""
    _known: dict[str, Network] = field(default_factory=dict)
    _locks: defaultdict[str, Lock] = field(default_factory=lambda: defaultdict(Lock))

    def __post_init__(self) -> None:
        if self.space.prefixlen > SMALLEST_RANGE:
            raise Refused(f"the address range {self.space} is too small: /{SMALLEST_RANGE} at least")

    async def ensure(self, installation: str, kind: Kind) -> Network:
        """The network of that kind, made if it is missing. Safe to call at any time from anywhere.

        Raises Refused when a network of that name is not as we would make it: it may be somebody else's, or protect
        nobody.
        """
        return await self.ensure_named(network_name(installation, kind), kind, {INSTALLATION: installation})

    async def ensure_named(self, name: str, kind: Kind, labels: Mapping[str, str]) -> Network:
        """As `ensure`, for a network with a name and labels of the caller's."""
        if (known := self._known.get(name)) is not None:
            return known
        async with self._locks[name]:
            if (known := self._known.get(name)) is not None:
                return known
            network = await self._find(name, kind, labels) or await self._make(name, kind, labels)
            if (reason := unreachable(network.gateway)) is not None:
                raise Refused(reason, reason="RuntimeUnsupported")
            await self._notice_used(network)
            self._known[name] = network
            return network

    async def address(self, network: Network) -> IPv4Address:
        """An address that nobody has, and that nobody had a moment ago."""
        if (address := network.pool.take()) is None:
            network.pool.used.clear()
            await self._notice_used(network)
            address = network.pool.take()
        if address is None:
            raise Refused(f"no address is left in {network.name} ({network.subnet})", reason="CreateFailed")
        return address

    def give_back(self, endpoints: Mapping[str, Json]) -> None:
        """The container that had these places is gone."""
        for name, endpoint in endpoints.items():
            known, address = self._known.get(name), endpoint_address(endpoint)
            if known is not None and address is not None:
                known.pool.used.discard(address)

    def forget(self, name: str = "") -> None:
        """Look at that network (or all) again before the next use: somebody may have removed it."""
        if name:
            self._known.pop(name, None)
        else:
            self._known.clear()

    async def labelled(self, *labels: str) -> list[str]:
        """Names of the networks of ours that have these labels, of all installations."""
        wanted = {"label": [NETWORK, *labels]}
        return [each["Name"] for each in await self.engine.call(self.engine.api.networks, filters=wanted)]

    async def remove(self, name: str) -> None:
        """Remove a network of ours, if nobody is on it. Absent is success."""
        self.forget(name)
        try:
            await self.engine.call(self.engine.api.remove_network, name)
        except (NotFound, Conflict):
            return
        except Refused as exc:
            if "active endpoints" not in str(exc):
                raise

    async def reachable(self) -> str | None:
        """Why the addresses of containers cannot be reached from here; None if nothing speaks against it."""
        for each in await self._all():
            if each["Name"] == "bridge" and each["IPAM"].get("Config"):
                return unreachable(_gateway(each))
        return None

    async def _find(self, name: str, kind: Kind, labels: Mapping[str, str]) -> Network | None:
        try:
            found: Json = await self.engine.call(self.engine.api.inspect_network, name)
        except NotFound:
            return None
        if (wrong := difference(found, _options(name, kind), labels, kind)) is not None:
            raise Refused(
                f"the network {name} is not as this node makes it ({wrong}); if nobody needs it, remove it with "
                f"docker network rm {name}",
                reason="CreateFailed",
            )
        return self._network(found, kind)

    async def _make(self, name: str, kind: Kind, labels: Mapping[str, str]) -> Network:
        taken = [*host_routes(self.routes), *_subnets(await self._all())]
        for subnet in carve(self.space, kind, name, taken):
            try:
                await self.engine.call(
                    self.engine.api.create_network,
                    name,
                    driver="bridge",
                    options={**_options(name, kind), **_mtu(self.routes)},
                    ipam=IPAMConfig(pool_configs=[IPAMPool(subnet=str(subnet))]),
                    check_duplicate=True,
                    internal=kind != "egress",
                    labels={**labels, NETWORK: kind},
                )
            except Conflict:  # another agent was faster
                pass
            except Refused as exc:
                if "overlaps" in str(exc):
                    continue
                if await self._find(name, kind, labels) is None:
                    raise
            if (made := await self._find(name, kind, labels)) is not None:
                if self.on_made is not None:
                    await self.on_made()
                return made
        raise Refused(f"no part of {self.space} is free for the network {name}", reason="CreateFailed")

    def _network(self, found: Json, kind: Kind) -> Network:
        subnet = IPv4Network(found["IPAM"]["Config"][0]["Subnet"])
        pool = AddressPool(subnet, self.chance.randrange(subnet.num_addresses - 3))
        return Network(found["Name"], found["Id"], kind, subnet, _gateway(found), pool)

    async def _notice_used(self, network: Network) -> None:
        found = await self.engine.call(
            self.engine.api.containers, all=True, filters={"network": network.name}
        )
        for container in found:
            endpoint = container["NetworkSettings"]["Networks"].get(network.name)
            if endpoint is not None and (address := endpoint_address(endpoint)) is not None:
                network.pool.used.add(address)

    async def _all(self) -> list[Json]:
        found: list[Json] = await self.engine.call(self.engine.api.networks)
        return found


def network_name(installation: str, kind: Kind) -> str:
    """The host's name of an installation's network."""
    return f"tk_{installation}_{kind}"


def endpoint_address(endpoint: Json) -> IPv4Address | None:
    """The address that a container has on a network, or will have when it starts."""
    fixed = (endpoint.get("IPAMConfig") or {}).get("IPv4Address")
    text = fixed or endpoint.get("IPAddress")
    return IPv4Address(text) if text else None


def difference(found: Json, options: Mapping[str, str], labels: Mapping[str, str], kind: Kind) -> str | None:
    """What makes a network another than the one we would make; None if nothing does."""
    for key, value in {**labels, NETWORK: kind}.items():
        if (found.get("Labels") or {}).get(key) != value:
            return f"label {key} is {(found.get('Labels') or {}).get(key)!r}, not {value!r}"
    for key, value in options.items():
        if (found.get("Options") or {}).get(key) != value:
            return f"{key} is {(found.get('Options') or {}).get(key)!r}, not {value!r}"
    if bool(found.get("Internal")) != (kind != "egress"):
        return f"internal is {bool(found.get('Internal'))}"
    if not found["IPAM"]["Config"]:
        return "it has no subnet"
    return None


def host_routes(path: Path) -> list[IPv4Network]:
    """Every network that the host has a route to, but for the default route."""
    if not path.exists():
        return []
    rows = [line.split() for line in path.read_text().splitlines()[1:]]
    routes = [IPv4Network((_address(row[1]), str(_address(row[7]))), strict=False) for row in rows]
    return [route for route in routes if route.prefixlen > 0]


def _address(hexadecimal: str) -> IPv4Address:
    return IPv4Address(bytes.fromhex(hexadecimal)[::-1])


def _options(name: str, kind: Kind) -> dict[str, str]:
    bridge = BRIDGES[kind] + hashlib.sha256(name.encode()).hexdigest()[:8]
    return {BRIDGE_NAME: bridge, ICC: "true" if kind == "peers" else "false"}


def _mtu(routes: Path) -> dict[str, str]:
    """The way out takes no larger packets than the host's own: some clouds drop the message that says so."""
    for row in (line.split() for line in routes.read_text().splitlines()[1:]) if routes.exists() else ():
        size = Path("/sys/class/net", row[0], "mtu")
        if row[7] == "00000000" and size.exists():
            return {MTU: size.read_text().strip()}
    return {}


def _subnets(networks: Iterable[Json]) -> list[IPv4Network]:
    configs = [config for each in networks for config in (each["IPAM"] or {}).get("Config") or ()]
    return [IPv4Network(config["Subnet"]) for config in configs if ":" not in config.get("Subnet", ":")]


def _gateway(network: Json) -> IPv4Address:
    config = network["IPAM"]["Config"][0]
    return IPv4Address(config.get("Gateway") or IPv4Network(config["Subnet"]).network_address + 1)


def unreachable(gateway: IPv4Address) -> str | None:
    """Why containers behind this bridge cannot be reached from here; None if they can.

    A bridge's own address can be bound only where the bridge is: not from another machine, from a container with a
    network of its own, or beside a Docker that runs in a virtual machine.
    """
    with socket.socket() as probe:
        try:
            probe.bind((str(gateway), 0))
        except OSError:
            return (
                f"Docker's bridge {gateway} is not on this machine: run the node agent on the host itself, or in a "
                "container with --network host"
            )
    return None
