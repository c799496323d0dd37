"""The Docker of a host, in memory: how containers live, and what people do to them with `docker` in their hands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from toolkeeper.planning.drift import expected
from toolkeeper.planning.observed import DockerState
from toolkeeper.testing.builders import make_handshake
from toolkeeper.testing.fake_container import GOOD, WORK, FakeContainer, FakeImage

STOPPING_SECONDS = 0.2
PROBE_SECONDS = 0.2
RESTART_DELAYS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60.0)
"""Docker doubles the pause before every restart of a crashing container, up to a minute."""
LONG_ENOUGH = 10.0
"""A run of so many seconds makes Docker forget earlier crashes."""


@dataclass(slots=True)
class Stranger:
    """A container that is none of ours. Any write to it is a crime, and recorded as one."""

    name: str
    touched: list[str] = field(default_factory=list)


class FakeDocker:
    """Pulls, starts, first answers, crashes, restart policies and volumes, in the event loop's own time."""

    def __init__(self, name: str, images: Mapping[str, FakeImage]) -> None:
        self._loop = asyncio.get_running_loop()
        self.name, self.images = name, dict(images)
        self.containers: dict[str, FakeContainer] = {}
        self.strangers: dict[str, Stranger] = {}
        self.volumes: dict[str, str] = {}
        """Volume → installation."""
        self.pulled: set[str] = set()
        self.docker_ok = True
        self._ids = 0

    def of(self, namespace: str, server: str) -> list[FakeContainer]:
        """The containers of one server, whatever their state."""
        return [each for each in self.containers.values() if each.key == (namespace, server)]

    # What happens to it.

    def docker_down(self) -> None:
        """Docker stops answering under a living agent."""
        self.docker_ok = False
        self._bump()

    def docker_up(self) -> None:
        """Docker is back, and starts what it was told to keep running."""
        self.docker_ok = True
        self._restart_everything()
        self._bump()

    # What people do with `docker` in their hands.

    def add_stranger(self, name: str) -> Stranger:
        """A container that is none of ours."""
        self.strangers[name] = Stranger(name)
        self._bump()
        return self.strangers[name]

    def stop_by_hand(self, name: str) -> None:
        """docker stop"""
        if (found := self._existing(name)) is not None and found.state in {"running", "restarting"}:
            found.stopped_by_hand = True
            self._stopped(found)

    def remove_by_hand(self, name: str) -> None:
        """docker rm -f"""
        if (found := self._existing(name)) is not None:
            self._gone(found)

    def edit_by_hand(self, name: str, *, memory: int) -> None:
        """docker update --memory"""
        if (found := self._existing(name)) is not None and found.live is not None:
            found.live = replace(found.live, memory=memory)
            self._bump()

    def kill_process(self, name: str) -> None:
        """kill -9 of the server's process; Docker restarts it by its policy."""
        if (found := self._existing(name)) is not None and found.state == "running":
            self._exited(found, 137)

    def fall_ill(self, name: str, failures: int) -> None:
        """The server hangs: probes fail from now on."""
        if (found := self._existing(name)) is not None and found.serving:
            found.handshake = make_handshake(False, "Timeout", message="no answer")
            found.probe_failures = failures
            self._bump()

    # How containers live.

    def _pull(self, each: FakeContainer) -> None:
        image = self._image(each)
        source = each.source
        if image.missing:
            each.error_reason, each.error = "ImageNotFound", f"{source} does not exist"
            self._turn(each, "failed")
        elif source in self.pulled:
            self._make(each)
        else:
            self._turn(each, "pulling" if each.instance.package is None else "building")
            self._later(each, image.pull, self._pull_done)

    def _pull_done(self, each: FakeContainer) -> None:
        self.pulled.add(each.source)
        self._make(each)

    def _make(self, each: FakeContainer) -> None:
        self._ids += 1
        each.container_id = f"{self.name}-{self._ids}"
        each.live = expected(each.instance)
        for volume in each.volumes:
            self.volumes.setdefault(volume, each.installation)
        self._turn(each, "created")
        self._later(each, self._image(each).start, self._start)

    def _start(self, each: FakeContainer) -> None:
        image = self._image(each)
        each.run += 1
        each.exit_code, each.handshake, each.stopped_by_hand = None, None, False
        each.probe_failures = 0
        self._turn(each, "running")
        if image.exits_after is not None:
            self._later(each, image.exits_after, self._ends)
        if image.handshake is None:
            self._later(each, PROBE_SECONDS, self._deaf)
        elif image.exits_after is None or image.handshake < image.exits_after:
            self._later(each, image.handshake, self._probe)

    def _probe(self, each: FakeContainer) -> None:
        image = self._image(each)
        if image.handshake is None:
            self._deaf(each)
            return
        each.handshake = image.answers(each.credential)
        self._bump()

    def _deaf(self, each: FakeContainer) -> None:
        each.handshake = make_handshake(ok=False)
        self._bump()

    def _ends(self, each: FakeContainer) -> None:
        self._exited(each, self._image(each).exit_code)

    def _exited(self, each: FakeContainer, code: int) -> None:
        lasted = self._loop.time() - each.since
        each.exit_code, each.handshake = code, None
        policy = each.instance.restart
        if policy == "Never" or (policy == "OnFailure" and code == 0) or each.stopped_by_hand:
            self._turn(each, "exited")
            return
        each.crashes = 1 if lasted >= LONG_ENOUGH else each.crashes + 1
        each.restarts += 1
        self._turn(each, "restarting")
        self._later(each, RESTART_DELAYS[min(each.crashes, len(RESTART_DELAYS)) - 1], self._start)

    def _stopped(self, each: FakeContainer) -> None:
        each.exit_code, each.handshake = 143, None
        self._turn(each, "exited")

    def _gone(self, each: FakeContainer) -> None:
        each.life += 1
        if self.containers.get(each.name) is each:
            del self.containers[each.name]
        self._bump()

    def _restart_everything(self) -> None:
        for each in self.containers.values():
            if each.state in {"running", "restarting", "paused"}:
                kept = each.instance.restart != "Never" and not each.stopped_by_hand
                self._start(each) if kept else self._stopped(each)
            elif each.state == "created":
                self._later(each, self._image(each).start, self._start)

    def _turn(self, each: FakeContainer, state: DockerState) -> None:
        each.state, each.since = state, self._loop.time()
        each.life += 1
        self._bump()

    def _later(self, each: FakeContainer, delay: float, what: Callable[[FakeContainer], None]) -> None:
        self._loop.call_later(delay, self._if_still, each, each.life, what)

    def _if_still(self, each: FakeContainer, life: int, what: Callable[[FakeContainer], None]) -> None:
        if each.life == life and self.containers.get(each.name) is each:
            what(each)

    def _bump(self) -> None:
        """Something changed that somebody could see. Whoever tells others begins here."""

    def _existing(self, name: str) -> FakeContainer | None:
        found = self.containers.get(name)
        return None if found is None or found.state in WORK else found

    def _image(self, each: FakeContainer) -> FakeImage:
        return self.images.get(each.source, GOOD)
