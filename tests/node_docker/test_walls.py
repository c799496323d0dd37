"""What a container can reach, asked from inside."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import docker
import pytest

from node_docker.conftest import Place, ask
from toolkeeper.node.docker import firewall
from toolkeeper.planning.instance import Reach

pytestmark = [pytest.mark.docker, pytest.mark.anyio]

OPEN = Reach(egress="allow")
CONNECT = """
import json, socket, sys
found = {}
for host, port in json.loads(sys.argv[1]):
    try:
        socket.create_connection((host, port), timeout=3).close()
        found[f"{host}:{port}"] = "connected"
    except OSError as error:
        found[f"{host}:{port}"] = type(error).__name__
print(json.dumps(found))
"""


def reached(place: Place, name: str, *targets: tuple[str, int]) -> list[str]:
    """Which of these (host, port) that container can connect to."""
    code, output = place.inside(name, "python3", "-c", CONNECT, json.dumps(targets))
    assert code == 0, output
    return [target for target, outcome in json.loads(output).items() if outcome == "connected"]


@contextmanager
def listening(address: str = "0.0.0.0", family: socket.AddressFamily = socket.AF_INET) -> Iterator[int]:
    """A port of the host that takes connections."""
    with socket.socket(family) as server:
        server.bind((address, 0))
        server.listen()
        threading.Thread(target=accept, args=(server,), daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def accept(server: socket.socket) -> None:
    while True:
        try:
            server.accept()[0].close()
        except OSError:
            return


def addresses_of_host() -> list[str]:
    """Every IPv4 address of this machine but loopback."""
    listed = subprocess.run(["ip", "-j", "-4", "addr"], capture_output=True, check=True, text=True).stdout
    found = [each["local"] for link in json.loads(listed) for each in link["addr_info"]]
    return [address for address in found if not address.startswith("127.")]


def address_of(place: Place, name: str) -> str:
    networks = place.engine.api.inspect_container(name)["NetworkSettings"]["Networks"]
    return next(str(each["IPAddress"]) for each in networks.values())


@pytest.mark.parametrize("reach", [Reach(), OPEN], ids=["denied", "allowed"])
async def test_no_server_reaches_another(place: Place, tiny_image: str, reach: Reach) -> None:
    one = await place.up(ask("one", image=tiny_image, reach=reach))
    others = [
        await place.up(ask("two", image=tiny_image)),
        await place.up(ask("three", image=tiny_image, reach=OPEN)),
    ]
    targets = [(address_of(place, other), 8000) for other in others]
    assert reached(place, one, *targets, ("two", 8000), (others[0], 8000)) == []
    assert reached(place, others[0], ("127.0.0.1", 8000)) == ["127.0.0.1:8000"]


@pytest.mark.parametrize("reach", [Reach(), OPEN], ids=["denied", "allowed"])
async def test_no_server_reaches_a_port_of_the_host_through_any_of_its_addresses(
    place: Place, tiny_image: str, reach: Reach
) -> None:
    name = await place.up(ask(image=tiny_image, reach=reach))
    with listening() as port:
        addresses = addresses_of_host()
        assert any(address.startswith("10.213.") for address in addresses)  # the bridge's own
        assert all(can_connect(address, port) for address in addresses)
        assert reached(place, name, *((address, port) for address in addresses)) == []


def can_connect(address: str, port: int) -> bool:
    with socket.create_connection((address, port), timeout=3):
        return True


@pytest.mark.parametrize("reach", [Reach(), OPEN], ids=["denied", "allowed"])
async def test_no_server_asks_a_cloud_who_the_host_is(place: Place, tiny_image: str, reach: Reach) -> None:
    name = await place.up(ask(image=tiny_image, reach=reach))
    assert reached(place, name, ("169.254.169.254", 80), ("169.254.170.2", 80)) == []
    before = refused_packets()
    reached(place, name, ("169.254.169.254", 80))
    assert refused_packets() > before  # by our rule, not by the lack of such a service here


def refused_packets() -> int:
    """How many packets our rules have refused to forward."""
    command = ["iptables", "-w", "-nvxL", firewall.FORWARD]
    listed = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    return sum(int(line.split()[0]) for line in listed.splitlines() if "REJECT" in line)


@pytest.mark.parametrize("reach", [Reach(), OPEN], ids=["denied", "allowed"])
async def test_a_server_has_no_ipv6(place: Place, tiny_image: str, reach: Reach) -> None:
    name = await place.up(ask(image=tiny_image, reach=reach))
    assert place.python(name, "print(open('/proc/net/if_inet6').read())") == ""
    with listening("::", socket.AF_INET6) as port:
        assert reached(place, name, ("::1", port), ("fe80::1", port)) == []


async def test_without_a_way_out_nothing_outside_is_reached_and_no_name_is_found(
    place: Place, tiny_image: str
) -> None:
    name = await place.up(ask(image=tiny_image))
    assert reached(place, name, ("1.1.1.1", 443), ("192.0.2.1", 80)) == []
    looked_up = place.python(name, "import socket\ntry: print(socket.gethostbyname('example.com'))\nexcept OSError as e: print('nothing')")  # fmt: skip # noqa: E501
    assert looked_up == "nothing"


async def test_what_is_refused_fails_at_once_and_does_not_hold_up_a_start(
    place: Place, tiny_image: str
) -> None:
    name = await place.up(ask(image=tiny_image))
    connect = "import socket; socket.create_connection(('1.1.1.1', 443), 10)"
    code = f"try: {connect}\nexcept OSError as e: print(type(e).__name__)"
    assert place.python(name, code) in {"OSError", "ConnectionRefusedError"}  # and no TimeoutError


async def test_with_a_way_out_packets_leave(place: Place, tiny_image: str) -> None:
    name = await place.up(ask(image=tiny_image, reach=OPEN))
    routes = place.python(name, "print(open('/proc/net/route').read())")
    assert any(line.split()[1] == "00000000" for line in routes.splitlines()[1:])


async def test_the_host_reaches_every_server_and_nothing_is_published(place: Place, tiny_image: str) -> None:
    names = [
        await place.up(ask(f"s{n}", image=tiny_image, reach=reach)) for n, reach in enumerate((Reach(), OPEN))
    ]
    for name in names:
        seen = await place.runtime.look_at(name)
        assert seen is not None
        await until_listening(seen.container.address)
        assert place.engine.containers.get(name).ports in ({}, {"8000/tcp": None})


async def until_listening(url: str) -> None:
    host, _, port = url.removeprefix("http://").partition("/")[0].partition(":")
    for _ in range(200):
        try:
            await (await anyio.connect_tcp(host, int(port))).aclose()
        except OSError:
            await anyio.sleep(0.05)
        else:
            return
    raise AssertionError(f"nobody listens at {url}")


async def test_a_flushed_firewall_is_set_again_and_the_features_say_so_meanwhile(
    place: Place, docker_engine: docker.DockerClient
) -> None:
    await anyio.run_process(["iptables", "-w", "-F", firewall.INPUT])
    assert await firewall.missing() is not None
    await firewall.ensure()
    assert await firewall.missing() is None
    assert "network" in place.runtime.features


async def test_setting_the_rules_twice_leaves_them_once(place: Place) -> None:
    await firewall.ensure()
    await firewall.ensure()
    listed = (await anyio.run_process(["iptables", "-w", "-S"])).stdout.decode()
    assert listed.count(f"-A INPUT -j {firewall.INPUT}") == 1
    assert listed.count(f"-A DOCKER-USER -j {firewall.FORWARD}") == 1
