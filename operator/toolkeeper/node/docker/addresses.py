"""Which part of the configured range is whose. Pure: what is taken comes in as an argument.

The lower three quarters of the range are cut into networks of 2,046 addresses, two for each installation; the upper
quarter into networks of 14 for pairs of peers. In a pair's network the lower half (.1 to .7) is for the side that may
begin a conversation, the upper half (.8 to .14) for the side that may only answer: one bit tells the firewall which.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Final, Literal

SERVERS_PREFIX: Final = 21
PEERS_PREFIX: Final = 28
ANSWERING_BIT: Final = 8

Kind = Literal["internal", "egress", "peers"]


def carve(space: IPv4Network, kind: Kind, name: str, taken: Iterable[IPv4Network]) -> Iterator[IPv4Network]:
    """Free networks of that kind, best first.

    The first choice depends on the name alone, so that a network that was removed comes back where it was.
    """
    quarters = list(space.subnets(prefixlen_diff=2))
    parts = quarters[3:] if kind == "peers" else quarters[:3]
    prefix = PEERS_PREFIX if kind == "peers" else SERVERS_PREFIX
    places = [each for part in parts for each in part.subnets(new_prefix=max(prefix, part.prefixlen))]
    first = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) % len(places)
    occupied = list(taken)
    for place in places[first:] + places[:first]:
        if not any(place.overlaps(other) for other in occupied):
            yield place


@dataclass
class AddressPool:
    """The addresses of one network. An address that was given back is not given out again soon."""

    network: IPv4Network
    cursor: int
    """Where to begin; from chance, so that a restarted agent does not begin with what was freed last."""
    used: set[IPv4Address] = field(default_factory=set)

    def take(self) -> IPv4Address | None:
        """The next free address; None when there is none left."""
        size = self.network.num_addresses - 3  # without network, gateway and broadcast
        for _ in range(size):
            self.cursor = (self.cursor + 1) % size
            address = self.network.network_address + 2 + self.cursor
            if address not in self.used:
                self.used.add(address)
                return address
        return None


def pair_address(network: IPv4Network, used: Set[IPv4Address], *, answers: bool) -> IPv4Address | None:
    """A free address in a pair's network, on the right side of it; None when that side is full."""
    offsets = range(ANSWERING_BIT, 15) if answers else range(2, ANSWERING_BIT)
    candidates = (network.network_address + offset for offset in offsets)
    return next((each for each in candidates if each not in used), None)
