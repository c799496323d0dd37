"""The containers that the node would make, made by hand: the same bodies on the same network, without Toolkeeper."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from itertools import count, islice
from typing import Any

from benchmarks.rig.engine import Engine
from toolkeeper.node.docker.hardening import Place, create_body
from toolkeeper.planning.desired import render
from toolkeeper.reconcile.ports import InstanceRequest
from toolkeeper.resources.mcpserver import MCPServer

Json = Any
FIRST_ADDRESS = 2000
"""Into the network: far from where the node takes its own."""
_turns = count(1)


@dataclass(frozen=True, slots=True)
class Body:
    """One container to make, and where it will answer."""

    name: str
    body: Json
    url: str


def bodies(engine: Engine, installation: str, manifests: Mapping[str, Json]) -> list[Body]:
    """One for each manifest, as the node would make it but for the marks of ownership."""
    network = engine.call("GET", f"/networks/tk_{installation}_internal")
    subnet = IPv4Network(network["IPAM"]["Config"][0]["Subnet"])
    addresses: Iterator[Any] = islice(subnet.hosts(), FIRST_ADDRESS, None)
    turn = next(_turns)
    made = []
    for (name, document), address in zip(manifests.items(), addresses, strict=False):
        drawn = render(MCPServer.model_validate(document), installation=installation, secrets={})
        instance = drawn.instance
        assert instance is not None, "the benchmark's own manifest is in order"
        request = InstanceRequest("default", name, drawn.hash, "", instance, {})
        body = create_body(request, installation, Place(instance.image, network["Name"], str(address)))
        # Other marks, or the node would take it for its own; as many, so that the body stays as long.
        body["Labels"] = {f"raw.{key}": value for key, value in body["Labels"].items()}
        body["Labels"]["toolkeeper.benchmark"] = installation
        made.append(
            Body(f"{installation}_{turn}_{name}", body, f"http://{address}:{instance.port}{instance.path}")
        )
    return made
