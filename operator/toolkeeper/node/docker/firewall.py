"""What keeps containers away from the host, from metadata services, and from beginning what they may only answer.

Docker's own rules keep the bridges apart and containers of one bridge from each other; everything else is here, in two
chains of our own. The rules name our bridges by how their names begin, so they are the same for any number of networks
and are in force before the first one exists. Refused, not dropped: what is not allowed fails at once, not after a
time-out that would hold up the start of many a server.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio

from toolkeeper.errors import Refused
from toolkeeper.node.docker.addresses import ANSWERING_BIT
from toolkeeper.node.docker.networks import BRIDGES

INPUT, FORWARD = "TOOLKEEPER-INPUT", "TOOLKEEPER-FORWARD"
ANSWERING: Final = f"0.0.0.{ANSWERING_BIT}/0.0.0.{ANSWERING_BIT}"
"""Every address with that bit: `addresses.pair_address` gives those to peers that only answer."""
INTERNAL, EGRESS, PEERS = (f"{BRIDGES[kind]}+" for kind in ("internal", "egress", "peers"))
REPLIES: Final = ("-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "RETURN")
LINK_LOCAL: Final = "169.254.0.0/16"
"""Where clouds hand out credentials to whoever asks from inside the machine; some have their name server there too."""

HAS_IPV6: Final = Path("/proc/net/if_inet6").exists()

Rule = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain of ours, and the chain that jumps to it first of all."""

    name: str
    parent: str
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Tables:
    """The chains of one protocol, and the program that keeps them."""

    program: str
    chains: tuple[Chain, ...]


def _refused(icmp: str, *match: str) -> tuple[Rule, ...]:
    """Refuse what matches. Connections get a reset of their own: the kernel sends few ICMP messages to one address."""
    return (
        (*match, "-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset"),
        (*match, "-j", "REJECT", "--reject-with", icmp),
    )


ICMP_4, ICMP_6 = "icmp-admin-prohibited", "icmp6-adm-prohibited"
NAME_SERVER: Final = ("-m", "multiport", "--dports", "53", "-j", "RETURN")

IPV4: Final = Tables(
    "iptables",
    (
        Chain(
            INPUT,
            "INPUT",
            tuple(
                rule
                for bridges in (INTERNAL, EGRESS, PEERS)
                for rule in (("-i", bridges, *REPLIES), *_refused(ICMP_4, "-i", bridges))
            ),
        ),
        Chain(
            FORWARD,
            "DOCKER-USER",
            (
                *_refused(ICMP_4, "-i", INTERNAL),
                ("-d", LINK_LOCAL, "-i", EGRESS, "-p", "udp", *NAME_SERVER),
                ("-d", LINK_LOCAL, "-i", EGRESS, "-p", "tcp", *NAME_SERVER),
                *_refused(ICMP_4, "-d", LINK_LOCAL, "-i", EGRESS),
                *(
                    rule
                    for bridges in (INTERNAL, EGRESS, PEERS)
                    for rule in _refused(ICMP_4, "-i", EGRESS, "-o", bridges)
                ),
                *_refused(ICMP_4, "-s", ANSWERING, "-i", PEERS, "-m", "conntrack", "--ctstate", "NEW"),
            ),
        ),
    ),
)
"""Docker asks DOCKER-USER before any rule of its own and leaves it alone."""

IPV6: Final = Tables(
    "ip6tables",
    tuple(
        Chain(
            name,
            parent,
            tuple(rule for each in (INTERNAL, EGRESS, PEERS) for rule in _refused(ICMP_6, "-i", each)),
        )
        for name, parent in ((INPUT, "INPUT"), (FORWARD, "FORWARD"))
    ),
)
"""The containers have no IPv6; this is the second lock."""


async def ensure() -> None:
    """Have every rule in force. Changes nothing if they all are; safe to call at any time, from several agents at once.

    Raises Refused, with the reason in one sentence, when that is not possible here.
    """
    if os.geteuid() != 0:
        raise Refused("the host's firewall can be set by root only")
    await _ensure(IPV4)
    if shutil.which(IPV6.program) is not None and HAS_IPV6:
        await _ensure(IPV6)


async def missing(tables: Tables = IPV4) -> str | None:
    """The first rule that is not in force, as its text; None if they all are."""
    listed = await anyio.run_process([tables.program, "-w", "-S"], check=False)
    there = {tuple(sorted(line.split()[1:])) for line in listed.stdout.decode(errors="replace").splitlines()}
    for chain in tables.chains:
        for place, rule in [
            (chain.parent, ("-j", chain.name)),
            *((chain.name, each) for each in chain.rules),
        ]:
            if tuple(sorted((place, *rule))) in there:
                continue
            # It may be listed in other words, as iptables of another age would: that one knows.
            if await _run(tables.program, "-w", "-C", place, *rule) is not None:
                return " ".join((place, *rule))
    return None


async def remove() -> None:
    """Take every rule of ours away again."""
    for tables in (IPV4, IPV6):
        if shutil.which(tables.program) is None:
            continue
        for chain in tables.chains:
            while await _run(tables.program, "-w", "-D", chain.parent, "-j", chain.name) is None:
                pass
            await _run(tables.program, "-w", "-F", chain.name)
            await _run(tables.program, "-w", "-X", chain.name)


async def _ensure(tables: Tables) -> None:
    if shutil.which(tables.program) is None:
        raise Refused(f"{tables.program} is not installed")
    if await missing(tables) is None:
        return
    # A chain is replaced in one piece: at no moment is half of it in force.
    if (
        reason := await _run(f"{tables.program}-restore", "-w", "--noflush", given=_written(tables))
    ) is not None:
        raise Refused(f"{tables.program} does not take our rules: {reason}")
    for chain in tables.chains:
        jump = ("-w", "-C", chain.parent, "-j", chain.name)
        if await _run(tables.program, *jump) is not None:
            reason = await _run(tables.program, "-w", "-I", chain.parent, "1", "-j", chain.name)
            if reason is not None:
                raise Refused(f"nothing can be put before {chain.parent}: {reason}")
    if (rule := await missing(tables)) is not None:
        raise Refused(f"{tables.program} took a rule that is not in force: {rule}")


def _written(tables: Tables) -> str:
    lines = ["*filter", *(f":{chain.name} - [0:0]" for chain in tables.chains)]
    lines += [" ".join(("-A", chain.name, *rule)) for chain in tables.chains for rule in chain.rules]
    return "\n".join([*lines, "COMMIT", ""])


async def _run(*command: str, given: str = "") -> str | None:
    """None when it succeeded, else what it said."""
    done = await anyio.run_process(command, input=given.encode(), check=False)
    return None if done.returncode == 0 else done.stderr.decode(errors="replace").strip() or "it failed"
