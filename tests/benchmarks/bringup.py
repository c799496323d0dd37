"""Twenty servers declared at once: how much longer than Docker itself does Toolkeeper need until all of them answer?

Toolkeeper: `toolkeeper node` and `toolkeeper operator` run and have nothing to do; a directory of twenty manifests
appears by one rename; the clock stops when every server's status says Ready and a client of our own was greeted by all.

Raw: the same bodies (rendered by the node's own code), on the same network, with static addresses, created and started
by four threads that speak to Docker's socket without a client library; the clock stops when the same client was greeted
by all. Node and operator go on running meanwhile, idle: what they use of the CPU then is in the table.

Both find the network, the image and the firewall in place, as every server after the first of a host does.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.rig import figures, raw
from benchmarks.rig.engine import Engine
from benchmarks.rig.handshake import answers
from benchmarks.rig.image import Server, server
from benchmarks.rig.plane import LOOK_SECONDS, Plane, is_ready, manifest, running

INSTALLATION = "bench-bringup"
PARALLEL = 4
PATIENCE = 120.0
QUIET_SECONDS = 1.0
"""Between two measurements: what the last one left to do is done by then."""

Json = Any


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--servers", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=7, help="measurements of each kind, in turn")
    options = parser.parse_args()
    engine = Engine()
    if (reason := engine.silent()) is not None:
        raise SystemExit(reason)
    made_of = server(engine)
    gc.disable()
    with running(engine, INSTALLATION) as plane:
        bringup = Bringup(engine, plane, made_of, options.servers)
        bringup.toolkeeper()  # makes the network, and loads what is loaded once
        bringup.raw()
        pairs = [bringup.pair(raw_first=n % 2 == 1) for n in range(options.pairs)]
        kept = bringup.memory_with_all()
    tell(pairs, kept, made_of, options.servers, bringup.idle_cpu)


class Pair(NamedTuple):
    """One measurement of each kind, in seconds."""

    ours: float
    raw: float
    cpu: float
    """What node and operator used of the CPU for theirs."""


class Bringup:
    """Both ways to have the servers run."""

    def __init__(self, engine: Engine, plane: Plane, made_of: Server, servers: int) -> None:
        self._engine, self._plane = engine, plane
        spec = {"image": made_of.image, **made_of.spec}
        self._manifests = {f"s{n:02d}": manifest(f"s{n:02d}", spec) for n in range(servers)}
        self.idle_cpu: list[float] = []

    def pair(self, *, raw_first: bool) -> Pair:
        """Both, right after each other."""
        before = self.raw() if raw_first else 0.0
        ours, cpu = self.toolkeeper()
        return Pair(ours, before or self.raw(), cpu)

    def toolkeeper(self) -> tuple[float, float]:
        """(seconds from the rename to the last greeting and the last Ready, CPU seconds of node and operator)."""
        before = sum(self._plane.cpu().values())
        seconds = self._brought_up()
        used = sum(self._plane.cpu().values()) - before
        self._plane.withdraw("round")
        time.sleep(QUIET_SECONDS)
        return seconds, used

    def memory_with_all(self) -> tuple[float, dict[str, float]]:
        """See `Plane.memory`, while all servers run."""
        self._brought_up()
        time.sleep(QUIET_SECONDS)
        found = self._plane.memory()
        self._plane.withdraw("round")
        return found

    def _brought_up(self) -> float:
        began = self._plane.declare("round", self._manifests)
        missing = set(self._manifests)
        while missing:
            if time.perf_counter() - began > PATIENCE:
                raise RuntimeError(f"not Ready: {sorted(missing)}\n{self._plane.trouble()}")
            for name, status in self._plane.status.look().items():
                if name in missing and is_ready(status) and answers(status["endpoint"]):
                    missing.discard(name)
            time.sleep(LOOK_SECONDS)
        return time.perf_counter() - began

    def raw(self) -> float:
        """From the first call to the last greeting."""
        before = sum(self._plane.cpu().values())
        bodies = raw.bodies(self._engine, INSTALLATION, self._manifests)
        started: SimpleQueue[str] = SimpleQueue()

        def run(each: raw.Body) -> str:
            id = self._engine.create(each.name, each.body)
            self._engine.start(id)
            started.put(each.url)
            return id

        with ThreadPoolExecutor(PARALLEL) as threads:
            began = time.perf_counter()
            running = [threads.submit(run, each) for each in bodies]
            _all_answer(started, len(bodies), began)
            seconds = time.perf_counter() - began
            ids = [each.result() for each in running]
            self.idle_cpu.append(sum(self._plane.cpu().values()) - before)
            list(threads.map(self._engine.remove, ids))
        time.sleep(QUIET_SECONDS)
        return seconds


def _all_answer(started: SimpleQueue[str], number: int, began: float) -> None:
    """Greet each server as soon as its container runs."""
    waiting: list[str] = []
    answered = 0
    while answered < number:
        if time.perf_counter() - began > PATIENCE:
            raise RuntimeError(f"no answer from {waiting}")
        try:
            while True:
                waiting.append(started.get_nowait())
        except Empty:
            pass
        silent = [url for url in waiting if not answers(url)]
        answered += len(waiting) - len(silent)
        waiting = silent
        time.sleep(LOOK_SECONDS)


def tell(
    pairs: Sequence[Pair],
    kept: tuple[float, Mapping[str, float]],
    made_of: Server,
    servers: int,
    idle_cpu: Sequence[float],
) -> None:
    ours, plain, used = zip(*pairs, strict=True)
    ratio = figures.median(ours) / figures.median(plain)
    single = [one.ours / one.raw for one in pairs]
    memory, each = kept
    parts = ", ".join(f"{name} {size:.0f}" for name, size in each.items())
    rows = {
        "Toolkeeper": f"{figures.spread(ours)} s",
        "raw Docker, 4 parallel": f"{figures.spread(plain)} s",
        "ratio of the medians": f"{ratio:.3f}; of single pairs: {figures.spread(single)}",
        "CPU of node and operator": f"{figures.spread(used)} s; idle, during raw: {figures.spread(idle_cpu)} s",
        "memory with all of them": f"{memory:.0f} MB resident, shared pages counted once; each with them: {parts}",
    }
    report = {
        "ratio_to_raw": ratio,
        "rss_mb": memory,
        "rss_sum_mb": sum(each.values()),
        "toolkeeper_s": figures.median(ours),
        "raw_s": figures.median(plain),
        "cpu_s": figures.median(used),
        "servers": servers,
        "runs": len(pairs),
    }
    figures.report(f"{servers} servers of {made_of.text}, {len(pairs)} runs each, interleaved", rows, report)


if __name__ == "__main__":
    main()
