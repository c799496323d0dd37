"""Which part of the range is whose."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from hypothesis import given
from hypothesis import strategies as st

from toolkeeper.node.docker.addresses import ANSWERING_BIT, AddressPool, carve, pair_address

SPACE = IPv4Network("10.201.0.0/16")


def test_a_network_has_room_for_a_thousand_servers_and_their_successors() -> None:
    network = next(carve(SPACE, "internal", "a", []))
    pool = AddressPool(network, 0)
    assert len({pool.take() for _ in range(2000)}) == 2000


def test_the_same_name_gets_the_same_network_again() -> None:
    assert next(carve(SPACE, "egress", "a", [])) == next(carve(SPACE, "egress", "a", []))


def test_what_is_taken_is_never_offered() -> None:
    first = next(carve(SPACE, "internal", "a", []))
    others = list(carve(SPACE, "internal", "a", [first, IPv4Network("10.201.0.0/17")]))
    assert others
    assert not any(other.overlaps(first) or other.overlaps(IPv4Network("10.201.0.0/17")) for other in others)


def test_nothing_is_offered_when_the_host_routes_the_whole_range() -> None:
    assert list(carve(SPACE, "peers", "a", [IPv4Network("10.0.0.0/8")])) == []


def test_networks_of_peers_and_of_servers_never_overlap() -> None:
    servers = list(carve(SPACE, "internal", "a", []))
    assert not any(peer.overlaps(each) for peer in carve(SPACE, "peers", "b", []) for each in servers)


def test_an_address_is_not_given_out_again_soon() -> None:
    pool = AddressPool(IPv4Network("10.201.0.0/24"), 0)
    first = pool.take()
    assert first is not None
    pool.used.discard(first)
    assert first not in {pool.take() for _ in range(200)}


def test_an_address_comes_back_when_no_other_is_left() -> None:
    pool = AddressPool(IPv4Network("10.201.0.0/28"), 0)
    taken = [pool.take() for _ in range(13)]
    assert pool.take() is None
    assert taken[0] is not None
    pool.used.discard(taken[0])
    assert pool.take() == taken[0]


@given(start=st.integers(0, 252), number=st.integers(1, 260))
def test_neither_the_gateway_nor_the_broadcast_address_is_given_out(start: int, number: int) -> None:
    network = IPv4Network("10.201.4.0/24")
    pool = AddressPool(network, start)
    taken = {pool.take() for _ in range(number)} - {None}
    assert not taken & {network.network_address, network.network_address + 1, network.broadcast_address}


def test_one_bit_tells_who_may_begin_a_conversation() -> None:
    network = IPv4Network("10.201.192.16/28")
    used: set[IPv4Address] = set()
    for answers, expected in ((True, ANSWERING_BIT), (False, 0)):
        while (address := pair_address(network, used, answers=answers)) is not None:
            assert int(address) & ANSWERING_BIT == expected
            used.add(address)
    assert len(used) == 13
