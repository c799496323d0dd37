"""A container is removed behind Toolkeeper's back (`docker rm -f`): when does the store say so, when is it healed?

Both clocks start when Docker's answer to the removal has come. `seen_s` ends when the status in the store is no longer
Ready; `healed` ends when the status is Ready again and a client of our own was greeted at the address that it names.
The baseline is the same container created and started by hand until it greets; what healing takes beyond that is
`healed_over_start_s`. Medians of rounds in which both are measured right after each other.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.rig import figures, raw
from benchmarks.rig.engine import Engine
from benchmarks.rig.handshake import answers
from benchmarks.rig.image import server
from benchmarks.rig.plane import LOOK_SECONDS, Plane, is_ready, manifest, running

INSTALLATION = "bench-heal"
NAME = "healed"
PATIENCE = 60.0
QUIET_SECONDS = 0.5

Json = Any


class Round(NamedTuple):
    """Seconds."""

    removal: float
    """What Docker took for the removal."""
    seen: float
    healed: float
    start: float
    """Of the same container by hand."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    engine = Engine()
    if (reason := engine.silent()) is not None:
        raise SystemExit(reason)
    made_of = server(engine)
    gc.disable()
    with running(engine, INSTALLATION) as plane:
        heal = Heal(engine, plane, {NAME: manifest(NAME, {"image": made_of.image, **made_of.spec})})
        heal.round()  # loads what is loaded once
        rounds = [heal.round() for _ in range(options.rounds)]
    tell(rounds, made_of.text)


class Heal:
    """One server, removed again and again."""

    def __init__(self, engine: Engine, plane: Plane, manifests: dict[str, Json]) -> None:
        self._engine, self._plane, self._manifests = engine, plane, manifests
        plane.declare("round", manifests)
        self._status = self._until(self._answers)

    def round(self) -> Round:
        """Remove it, watch; then start its twin by hand."""
        before = time.perf_counter()
        self._engine.remove(self._status["containerId"])
        began = time.perf_counter()
        self._until(lambda status: not is_ready(status))
        seen = time.perf_counter() - began
        self._status = self._until(self._answers)
        healed = time.perf_counter() - began
        time.sleep(QUIET_SECONDS)
        return Round(began - before, seen, healed, self._by_hand())

    def _by_hand(self) -> float:
        (twin,) = raw.bodies(self._engine, INSTALLATION, self._manifests)
        began = time.perf_counter()
        id = self._engine.create(twin.name, twin.body)
        self._engine.start(id)
        while not answers(twin.url):
            time.sleep(LOOK_SECONDS)
        seconds = time.perf_counter() - began
        self._engine.remove(id)
        time.sleep(QUIET_SECONDS)
        return seconds

    def _answers(self, status: Json) -> bool:
        return is_ready(status) and answers(status["endpoint"])

    def _until(self, holds: Callable[[Json], bool]) -> Json:
        """The first status of which that holds."""
        deadline, status = time.perf_counter() + PATIENCE, None
        while time.perf_counter() < deadline:
            self._plane.status.look()
            status = self._plane.status.servers.get(NAME, {})
            if holds(status):
                return status
            time.sleep(LOOK_SECONDS)
        raise RuntimeError(f"not reached; the status is {status}\n{self._plane.trouble()}")


def tell(rounds: Sequence[Round], text: str) -> None:
    removal, seen, healed, start = zip(*rounds, strict=True)
    over = figures.median(healed) - figures.median(start)
    rows = {
        "the removal itself": f"{figures.spread(removal)} s",
        "the store says so": f"{figures.spread(seen)} s after it",
        "it answers again": f"{figures.spread(healed)} s after it",
        "the same by hand": f"{figures.spread(start)} s",
        "healing beyond the start": f"{over:.3f} s",
    }
    report = {
        "seen_s": figures.median(seen),
        "healed_over_start_s": over,
        "healed_s": figures.median(healed),
        "start_s": figures.median(start),
        "ratio_to_start": figures.median(healed) / figures.median(start),
        "runs": len(rounds),
    }
    figures.report(f"one server of {text} removed {len(rounds)} times", rows, report)


if __name__ == "__main__":
    main()
