"""The networks of an installation: made once, recognised, and never somebody else's."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import anyio
import docker
import pytest
from docker.types import IPAMConfig, IPAMPool

from node_docker.conftest import SPACE, Place, ask
from toolkeeper.errors import Refused
from toolkeeper.node.docker.engine import Engine
from toolkeeper.node.docker.networks import Networks, difference, host_routes, network_name, unreachable

pytestmark = [pytest.mark.docker, pytest.mark.anyio]


@pytest.fixture
async def networks(anyio_backend: str) -> AsyncIterator[Networks]:
    engine = Engine("unix:///var/run/docker.sock")
    yield Networks(engine, SPACE, random.Random(1))
    await engine.aclose()


def another(networks: Networks) -> Networks:
    """Those of another node agent, which knows nothing yet."""
    return Networks(networks.engine, networks.space, random.Random(2))


async def test_asking_at_the_same_time_makes_one_network(
    networks: Networks, installation: str, docker_engine: docker.DockerClient
) -> None:
    agents = [networks, another(networks), another(networks)]
    async with anyio.create_task_group() as group:
        for agent in agents * 4:
            group.start_soon(agent.ensure, installation, "internal")
    name = network_name(installation, "internal")
    assert len(docker_engine.networks.list(names=[name])) == 1
    found = [await agent.ensure(installation, "internal") for agent in agents]
    assert len({(each.id, each.subnet) for each in found}) == 1


async def test_a_network_is_closed_inside_and_known_by_the_name_of_its_bridge(
    networks: Networks, installation: str, docker_engine: docker.DockerClient
) -> None:
    for kind, internal, begins in (("internal", True, "tkbri"), ("egress", False, "tkbre")):
        made = await networks.ensure(installation, kind)  # type: ignore[arg-type]
        found = docker_engine.networks.get(made.name).attrs
        assert found["Internal"] is internal
        assert found["EnableIPv6"] is False
        assert found["Options"]["com.docker.network.bridge.enable_icc"] == "false"
        assert found["Options"]["com.docker.network.bridge.name"].startswith(begins)
        assert await anyio.Path("/sys/class/net", found["Options"]["com.docker.network.bridge.name"]).exists()
        assert made.subnet.subnet_of(SPACE)


@pytest.mark.parametrize(
    "wrong",
    [
        {"options": {"com.docker.network.bridge.enable_icc": "true"}},
        {"internal": False},
        {"labels": {}},
        {"labels": {"toolkeeper.dev/installation": "somebody-else"}},
    ],
    ids=["open inside", "with a way out", "unmarked", "another installation's"],
)
async def test_a_network_that_is_not_as_we_make_it_is_told_and_not_used(
    networks: Networks, installation: str, docker_engine: docker.DockerClient, wrong: dict[str, Any]
) -> None:
    good = await networks.ensure(installation, "internal")
    found = docker_engine.networks.get(good.name).attrs
    await networks.remove(good.name)
    given = {"options": found["Options"], "internal": True, "labels": found["Labels"]} | wrong
    bridge = {"com.docker.network.bridge.name": found["Options"]["com.docker.network.bridge.name"]}
    pool = IPAMConfig(pool_configs=[IPAMPool(subnet=str(good.subnet))])
    made = docker_engine.networks.create(
        good.name, ipam=pool, **(given | {"options": bridge | given["options"]})
    )
    try:
        with pytest.raises(Refused, match=f"docker network rm {good.name}"):
            await networks.ensure(installation, "internal")
    finally:
        made.remove()


async def test_a_subnet_that_is_taken_is_stepped_over(
    networks: Networks, installation: str, docker_engine: docker.DockerClient
) -> None:
    first = (await networks.ensure(installation, "internal")).subnet
    await networks.remove(network_name(installation, "internal"))
    pool = IPAMConfig(pool_configs=[IPAMPool(subnet=str(first))])
    squatter = docker_engine.networks.create(f"squatter-{installation}", ipam=pool)
    try:
        assert not (await networks.ensure(installation, "internal")).subnet.overlaps(first)
    finally:
        squatter.remove()


async def test_a_range_that_the_host_routes_elsewhere_is_refused(
    networks: Networks, installation: str, tmp_path: Path
) -> None:
    routes = tmp_path / "route"
    head = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n"
    routes.write_text(head + "eth0\t0000D50A\t00000000\t0001\t0\t0\t0\t0000FFFF\n")
    assert host_routes(routes) == [IPv4Network("10.213.0.0/16")]
    routed = Networks(networks.engine, SPACE, random.Random(1), routes=routes)
    with pytest.raises(Refused, match="no part of"):
        await routed.ensure(installation, "internal")


async def test_a_range_too_small_for_servers_and_peers_is_refused() -> None:
    with pytest.raises(Refused, match="too small"):
        Networks(Engine("unix:///x"), IPv4Network("10.0.0.0/20"), random.Random(1))


async def test_the_default_route_is_no_route_to_a_network(tmp_path: Path) -> None:
    routes = tmp_path / "route"
    routes.write_text("head\neth0\t00000000\t0102000A\t0003\t0\t0\t0\t00000000\n")
    assert host_routes(routes) == []
    assert host_routes(tmp_path / "none") == []


async def test_a_bridge_that_is_elsewhere_is_unreachable_and_the_remedy_is_told() -> None:
    assert unreachable(IPv4Address("127.0.0.1")) is None
    assert "--network host" in str(unreachable(IPv4Address("198.51.100.1")))


async def test_a_look_alike_is_told_apart_by_every_field() -> None:
    options, labels = {"com.docker.network.bridge.enable_icc": "false"}, {"toolkeeper.dev/installation": "x"}
    found: dict[str, Any] = {
        "Labels": {**labels, "toolkeeper.dev/network": "internal"},
        "Options": options,
        "Internal": True,
        "IPAM": {"Config": [{"Subnet": "10.0.0.0/21"}]},
    }
    assert difference(found, options, labels, "internal") is None
    assert difference(found, options, labels, "egress") is not None
    assert difference({**found, "Labels": None}, options, labels, "internal") is not None
    assert difference({**found, "Options": None}, options, labels, "internal") is not None
    assert difference({**found, "IPAM": {"Config": []}}, options, labels, "internal") is not None


async def test_addresses_are_neither_shared_nor_reused_soon(place: Place, tiny_image: str) -> None:
    used: list[str] = []
    for n in range(3):
        name = await place.up(ask(f"s{n}", image=tiny_image))
        seen = await place.runtime.look_at(name)
        assert seen is not None
        used.append(seen.container.address)
        if n != 1:
            await place.runtime.remove(name, 0)
    assert len(set(used)) == 3


async def test_an_address_that_somebody_took_is_replaced(place: Place, tiny_image: str) -> None:
    name = await place.up(ask(image=tiny_image))
    seen = await place.runtime.look_at(name)
    assert seen is not None
    address = seen.container.address.removeprefix("http://").partition(":")[0]
    await place.runtime.stop(name, 0)
    network = place.engine.networks.get(network_name(place.installation, "internal"))
    squatter = place.engine.containers.create(tiny_image, network=network.name)
    try:
        network.disconnect(squatter)
        network.connect(squatter, ipv4_address=address)
        squatter.start()
        await place.runtime.start(name)
        again = await place.runtime.look_at(name)
        assert again is not None
        assert again.container.state == "running"
        assert again.container.address != seen.container.address
    finally:
        squatter.remove(force=True)


async def test_a_restarted_agent_gives_out_no_address_that_is_taken(place: Place, tiny_image: str) -> None:
    name = await place.up(ask("one", image=tiny_image))
    await place.runtime.stop(name, 0)
    engine = Engine("unix:///var/run/docker.sock")
    fresh = Networks(engine, SPACE, random.Random(3))
    network = await fresh.ensure(place.installation, "internal")
    seen = await place.runtime.look_at(name)
    assert seen is not None
    assert seen.container.address.removeprefix("http://").partition(":")[0] in map(str, network.pool.used)
    await engine.aclose()


async def test_a_range_of_ones_own_is_kept_to(place: Place, tiny_image: str) -> None:
    assert replace(place.settings).addresses == SPACE
    seen = await place.runtime.look_at(await place.up(ask(image=tiny_image)))
    assert seen is not None
    assert IPv4Address(seen.container.address.removeprefix("http://").partition(":")[0]) in SPACE
