"""At rest, how many servers can one core look after per second?

One pass: the answer of a node with ten servers, as bytes, is decoded and checked (`dtma.wire.SNAPSHOT`), what is
wanted is put beside it, and `decide` comes to the decision to write nothing and do nothing. A tenth of that is one
reconcile.

The baseline is what a loop without a plan would do: parse the same bytes with the standard library's JSON and compare
all of it with what it was the last time. CPU time of this process throughout, so that neighbours do not count; rounds
of both alternate, and the medians are reported.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.rig import figures
from toolkeeper.dtma.wire import SNAPSHOT
from toolkeeper.planning.decide import decide
from toolkeeper.planning.desired import render
from toolkeeper.planning.observed import Snapshot
from toolkeeper.planning.world import Wanted, World
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.testing.builders import (
    INSTALLATION,
    make_container,
    make_handshake,
    make_server,
    make_snapshot,
    make_world,
)

SERVERS = 10
TOOLS = tuple(f"tool_{n:02d}" for n in range(12))
ENV = [{"name": f"SETTING_{n}", "value": str(n)} for n in range(5)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--passes", type=int, default=200, help="per round")
    options = parser.parse_args()
    servers, raw = a_host_at_rest()
    ours, naive = our_pass(servers, raw), naive_pass(raw)
    for _ in range(options.passes):
        ours()
        naive()
    gc.collect()
    gc.freeze()
    times: list[tuple[float, float, float]] = []
    for _ in range(options.rounds):
        decode = per_server(lambda: SNAPSHOT.validate_json(raw), options.passes)
        times.append((per_server(ours, options.passes), per_server(naive, options.passes), decode))
    tell(times, len(raw))


def a_host_at_rest() -> tuple[list[MCPServer], bytes]:
    """Ten servers whose statuses say all there is to say, and the node's answer about their containers."""
    servers = [make_server(f"server-{n}", env=ENV, args=["--port", "{{port}}"]) for n in range(SERVERS)]
    seen = make_handshake(tools=TOOLS, tool_hashes=tuple((tool, "sha256:" + "0" * 64) for tool in TOOLS))
    names = ("GPG_KEY", "LANG", "PATH", "PYTHON_VERSION")
    containers = [make_container(server, handshake=seen) for server in servers]
    containers = [
        replace(each, live=replace(each.live, env_names=tuple(sorted((*each.live.env_names, *names)))))
        for each in containers
        if each.live is not None
    ]
    snapshot = make_snapshot(*containers, foreign=3)
    settled = decide(make_world(*servers, observation=snapshot))
    return list(settled.servers), SNAPSHOT.dump_json(snapshot)


def our_pass(servers: list[MCPServer], raw: bytes) -> Callable[[], None]:
    """What the loop does when a node's answer has come; rendering is cached there as it is here."""
    drawn = [render(each, installation=INSTALLATION, secrets={}) for each in servers]
    first = decide(make_world(*servers, observation=SNAPSHOT.validate_json(raw)))
    assert first.toolbox is not None
    template = make_world(toolbox=first.toolbox)

    def run() -> None:
        decision = decide(_world(template, servers, drawn, SNAPSHOT.validate_json(raw)))
        changed = decision.servers or decision.toolbox or decision.plan.steps or decision.events
        assert not changed

    return run


def _world(template: World, servers: list[MCPServer], drawn: list[Any], snapshot: Snapshot) -> World:
    wanted = tuple(
        Wanted(
            server=server,
            instance=each.instance,
            hash=each.hash,
            hashes=each.hashes,
            instances=each.instances,
        )
        for server, each in zip(servers, drawn, strict=True)
    )
    return replace(template, servers=wanted, observation=snapshot)


def naive_pass(raw: bytes) -> Callable[[], None]:
    """Parse, and compare with the last time."""
    last = json.loads(raw)

    def run() -> None:
        assert json.loads(raw) == last

    return run


def per_server(run: Callable[[], object], passes: int) -> float:
    """CPU seconds of one server's share."""
    began = time.process_time()
    for _ in range(passes):
        run()
    return (time.process_time() - began) / passes / SERVERS


def tell(times: list[tuple[float, float, float]], size: int) -> None:
    ours, naive, decode = (figures.median(column) for column in zip(*times, strict=True))
    rows = {
        "snapshot": f"{SERVERS} servers, {size:,} bytes",
        "one server": f"{ours * 1e6:.1f} µs, of which decoding {decode * 1e6:.1f} µs",
        "baseline": f"{naive * 1e6:.1f} µs (parse and compare everything)",
        "reconciles per second": f"{1 / ours:,.0f}",
    }
    report = {"reconciles_per_s": round(1 / ours), "ratio_to_baseline": ours / naive}
    figures.report("planning at rest, CPU time of one core", rows, report)


if __name__ == "__main__":
    main()
