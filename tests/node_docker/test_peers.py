"""Servers that name each other as peers."""

from __future__ import annotations

import anyio
import pytest

from node_docker.conftest import Place, ask
from node_docker.test_walls import reached
from toolkeeper.planning.instance import Reach

pytestmark = [pytest.mark.docker, pytest.mark.anyio]

A = Reach(peers=("b",))


def networks_of_peers(place: Place) -> list[str]:
    labels = [f"toolkeeper.dev/installation={place.installation}", "toolkeeper.dev/network=peers"]
    return [str(each.name) for each in place.engine.networks.list(filters={"label": labels})]


async def live_networks(place: Place, name: str) -> tuple[str, ...]:
    seen = await place.runtime.look_at(name)
    assert seen is not None
    assert seen.container.live is not None
    return seen.container.live.networks


@pytest.mark.parametrize("first", ["a", "b"])
async def test_a_server_reaches_its_peer_by_name_whoever_came_first(
    place: Place, tiny_image: str, first: str
) -> None:
    requests = {"a": ask("a", image=tiny_image, reach=A), "b": ask("b", image=tiny_image)}
    order = [first, *({"a", "b"} - {first})]
    names = {server: await place.up(requests[server]) for server in order}
    assert await until_reached(place, names["a"], "b")


async def until_reached(place: Place, name: str, server: str) -> bool:
    """Whether it gets through within the time that a server takes to listen."""
    for _ in range(100):
        if reached(place, name, (server, 8000)):
            return True
        await anyio.sleep(0.05)
    return False


async def test_a_peer_answers_and_never_begins(place: Place, tiny_image: str) -> None:
    b = await place.up(ask("b", image=tiny_image))
    a = await place.up(ask("a", image=tiny_image, reach=A))
    assert await until_reached(place, a, "b")
    addresses = [
        str(each["IPAddress"])
        for each in place.engine.api.inspect_container(a)["NetworkSettings"]["Networks"].values()
    ]
    assert len(addresses) == 2
    assert reached(place, b, *((address, 8000) for address in addresses), ("a", 8000)) == []


async def test_nobody_else_reaches_a_pair(place: Place, tiny_image: str) -> None:
    b = await place.up(ask("b", image=tiny_image))
    a = await place.up(ask("a", image=tiny_image, reach=A))
    c = await place.up(ask("c", image=tiny_image, reach=Reach(peers=("a",))))
    assert await until_reached(place, a, "b")
    assert await until_reached(place, c, "a")
    addresses = [
        str(each["IPAddress"])
        for name in (a, b)
        for each in place.engine.api.inspect_container(name)["NetworkSettings"]["Networks"].values()
    ]
    own = [
        str(e["IPAddress"])
        for e in place.engine.api.inspect_container(c)["NetworkSettings"]["Networks"].values()
    ]
    allowed = {
        address for address in addresses if address.rpartition(".")[0] in {o.rpartition(".")[0] for o in own}
    }
    outside = [(address, 8000) for address in addresses if address not in allowed]
    assert reached(place, c, *outside, ("b", 8000)) == []


async def test_a_pair_leads_nowhere_else(place: Place, tiny_image: str) -> None:
    await place.up(ask("b", image=tiny_image))
    a = await place.up(ask("a", image=tiny_image, reach=A))
    assert reached(place, a, ("1.1.1.1", 443), ("169.254.169.254", 80)) == []


async def test_being_named_as_a_peer_is_no_drift(place: Place, tiny_image: str) -> None:
    b = await place.up(ask("b", image=tiny_image))
    a = await place.up(ask("a", image=tiny_image, reach=A))
    assert await live_networks(place, a) == ("internal",)
    assert await live_networks(place, b) == ("internal",)


async def test_the_network_of_a_pair_goes_with_the_one_that_named_the_other(
    place: Place, tiny_image: str
) -> None:
    b = await place.up(ask("b", image=tiny_image))
    a = await place.up(ask("a", image=tiny_image, reach=A))
    assert len(networks_of_peers(place)) == 1
    await place.runtime.remove(a, 0)
    assert networks_of_peers(place) == []
    assert list(place.engine.api.inspect_container(b)["NetworkSettings"]["Networks"]) == [
        f"tk_{place.installation}_internal"
    ]


async def test_a_peer_that_is_replaced_is_found_again(place: Place, tiny_image: str) -> None:
    b = await place.up(ask("b", image=tiny_image))
    a = await place.up(ask("a", image=tiny_image, reach=A))
    await place.up(ask("b", image=tiny_image, version="2"))
    await place.runtime.remove(b, 0)
    assert await until_reached(place, a, "b")


async def test_servers_of_another_namespace_are_not_meant(place: Place, tiny_image: str) -> None:
    await place.up(ask("b", image=tiny_image, namespace="other"))
    a = await place.up(ask("a", image=tiny_image, reach=A))
    assert reached(place, a, ("b", 8000)) == []
