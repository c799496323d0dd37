"""How soon does a host take a change on, how many deployments succeed, how long does the quick start take?

Deployments: twenty servers run; one manifest after the other is replaced (a new value of a variable: a new version, to
be rolled out beside the old one), five times around. A deployment was accepted when the operator's log of actions in
the store says that the host took the new container on; it succeeded when the status is Ready and a client of our own is
greeted by the new version at the address that the status names. One at a time, because a host rolls out one server at
a time. Beside every tenth, the same container is created and started by hand until it greets: the baseline.

Quick start: the three manifests of `examples/quickstart`, at once, on base images that are on the host while the images
of the packages are not: they are built on copies of the base images that only this run knows, so nothing is found ready
made. Without package registries there is no such figure.
"""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import yaml

from benchmarks.rig import figures, raw
from benchmarks.rig.engine import Engine, EngineError
from benchmarks.rig.handshake import answers, greeted
from benchmarks.rig.image import Server, server
from benchmarks.rig.plane import LOOK_SECONDS, Plane, is_ready, manifest, running
from services import base_images

DEPLOYMENTS, QUICKSTART = "bench-deploy", "bench-start"
MANIFESTS = Path(__file__).resolve().parents[2] / "examples" / "quickstart"
PATIENCE = 60.0
BUILD_PATIENCE = 600.0
BY_HAND_EVERY = 10

Json = Any


class Deployment(NamedTuple):
    """Seconds from the change on; infinite for what never came."""

    accepted: float
    ready: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--servers", type=int, default=20)
    parser.add_argument("--changes", type=int, default=5, help="of each server")
    parser.add_argument("--quickstarts", type=int, default=1, help="runs of the quick start; 0 leaves it out")
    options = parser.parse_args()
    engine = Engine()
    if (reason := engine.silent()) is not None:
        raise SystemExit(reason)
    made_of = server(engine)
    gc.disable()
    with running(engine, DEPLOYMENTS) as plane:
        deploy = Deploy(engine, plane, made_of, options.servers)
        made = [
            deploy.change(n, f"{change}.{n}")
            for change in range(1, options.changes + 1)
            for n in range(options.servers)
        ]
    starts, why = quick_starts(engine, options.quickstarts)
    tell(made, deploy.by_hand, starts, why, options.servers)


class Deploy:
    """Servers that get new versions."""

    def __init__(self, engine: Engine, plane: Plane, made_of: Server, servers: int) -> None:
        self._engine, self._plane, self._made_of = engine, plane, made_of
        self.by_hand: list[float] = []
        first = {_name(n): self._manifest(n, "0") for n in range(servers)}
        began = plane.declare("round", first)
        while not all(is_ready(plane.status.servers.get(name, {})) for name in first):
            if time.perf_counter() - began > PATIENCE:
                raise RuntimeError(f"the servers do not start\n{plane.trouble()}")
            plane.status.look()
            time.sleep(LOOK_SECONDS)

    def change(self, number: int, version: str) -> Deployment:
        """Give one server a new version, and watch."""
        if number % BY_HAND_EVERY == 0:
            self.by_hand.append(self._start_by_hand(number))
        name, accepted, ready = _name(number), float("inf"), float("inf")
        known = self._plane.status.last_action()
        began = self._plane.edit("round", name, self._manifest(number, version))
        while (now := time.perf_counter() - began) < PATIENCE:
            if accepted > now and self._plane.status.accepted(name, "create", since=known):
                accepted = now
            self._plane.status.look()
            status = self._plane.status.servers[name]
            if is_ready(status) and greeted(status["endpoint"]) == version:
                ready = time.perf_counter() - began
                break
            time.sleep(LOOK_SECONDS)
        return Deployment(accepted, ready)

    def _start_by_hand(self, number: int) -> float:
        document = self._manifest(number, "by-hand")
        (twin,) = raw.bodies(self._engine, DEPLOYMENTS, {_name(number): document})
        began = time.perf_counter()
        id = self._engine.create(twin.name, twin.body)
        self._engine.start(id)
        while not answers(twin.url):
            time.sleep(LOOK_SECONDS)
        seconds = time.perf_counter() - began
        self._engine.remove(id)
        return seconds

    def _manifest(self, number: int, version: str) -> Json:
        env = [{"name": "TINY_VERSION", "value": version}]
        return manifest(_name(number), {"image": self._made_of.image, **self._made_of.spec, "env": env})


def _name(number: int) -> str:
    return f"s{number:02d}"


def quick_starts(engine: Engine, runs: int) -> tuple[list[dict[str, float]], str]:
    """Seconds until each server of the quick start was Ready, for each run; or why there is none."""
    if runs == 0:
        return [], "left out"
    if (reason := base_images.missing()) is not None:
        return [], reason
    if not _registries_answer():
        return [], "no package registry answers"
    return [_quick_start(engine) for _ in range(runs)], ""


def _quick_start(engine: Engine) -> dict[str, float]:
    documents = {each.stem: yaml.safe_load(each.read_text()) for each in sorted(MANIFESTS.glob("*.yaml"))}
    with _copies(engine) as bases, running(engine, QUICKSTART, bases) as plane:
        began, ready = plane.declare("round", documents), dict[str, float]()
        while len(ready) < len(documents):
            now = time.perf_counter() - began
            if now > BUILD_PATIENCE:
                raise RuntimeError(f"only {sorted(ready)} are Ready\n{plane.trouble()}")
            ready |= {name: now for name, status in plane.status.look().items() if is_ready(status)}
            time.sleep(10 * LOOK_SECONDS)
        plane.withdraw("round")
    return ready


@contextmanager
def _copies(engine: Engine) -> Iterator[dict[str, str]]:
    """Settings of a node whose base images nobody else has; they, and what was built on them, go afterwards."""
    copies = {}
    before = set(_images(engine))
    for setting, image in (("BASE_PYTHON", base_images.PYTHON), ("BASE_NODE", base_images.NODE)):
        container = engine.create(
            f"{QUICKSTART}-{setting.lower()}", {"Image": image, "Cmd": ["never-started"]}
        )
        name = f"toolkeeper-benchmark-{setting.lower().replace('_', '-')}"
        engine.call("POST", f"/commit?container={container}&repo={name}&tag=run", {})
        engine.remove(container)
        copies[f"TOOLKEEPER_NODE_{setting}"] = f"{name}:run"
    try:
        yield copies
    finally:
        for image in [*(set(_images(engine)) - before - set(copies.values())), *copies.values()]:
            with suppress(EngineError):  # another run's
                if image in copies.values() or _built_on(engine, image, copies.values()):
                    engine.call("DELETE", f"/images/{image}?force=true")


def _images(engine: Engine) -> list[str]:
    return [tag for each in engine.call("GET", "/images/json") for tag in each["RepoTags"] or ()]


def _built_on(engine: Engine, image: str, bases: Any) -> bool:
    ancestors = {each["Id"] for each in engine.call("GET", f"/images/{image}/history")}
    return any(engine.call("GET", f"/images/{base}/json")["Id"] in ancestors for base in bases)


def _registries_answer() -> bool:
    """pip and its settings know this machine's index; where that answers, npm's will."""
    with tempfile.TemporaryDirectory() as folder:
        asked = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "--retries=0",
            "-d",
            folder,
            "iniconfig",
        ]
        return subprocess.run(asked, capture_output=True, check=False).returncode == 0


def tell(
    made: Sequence[Deployment],
    by_hand: Sequence[float],
    starts: Sequence[dict[str, float]],
    why: str,
    servers: int,
) -> None:
    accepted, ready = [each.accepted for each in made], [each.ready for each in made]
    succeeded = sum(each < PATIENCE for each in ready) / len(made)
    means = [sum(run.values()) / len(run) for run in starts]
    last = ", ".join(f"{name} {seconds:.1f}" for name, seconds in starts[-1].items()) if starts else why
    p99 = figures.percentile(accepted, 0.99)
    rows = {
        "change → accepted": f"{figures.spread(accepted)} s, p99 {p99:.3f} s",
        "change → ready": f"{figures.spread(ready)} s",
        "the same start by hand": f"{figures.spread(by_hand)} s",
        "succeeded": f"{succeeded:.1%} of {len(made)}",
        "quick start, mean until ready": f"{figures.spread(means)} s (last run: {last})" if means else why,
    }
    report = {
        "initiation_s": p99,
        "initiation_median_s": figures.median(accepted),
        "success_ratio": succeeded,
        "deployments": len(made),
        "ready_s": figures.median(ready),
        "start_s": figures.median(by_hand),
        "ratio_to_raw": figures.median(ready) / figures.median(by_hand),
        "ready_mean_s": figures.median(means) if means else None,
        "quickstarts": len(starts),
    }
    figures.report(f"{len(made)} deployments over {servers} servers, one after the other", rows, report)


if __name__ == "__main__":
    main()
