"""One container as the node knows it: what was seen, what is being done, what failed, what the probe said. Pure.

seen      work      failure    what `state` shows
----      ----      -------    ------------------
none      create    -          the work: pending, pulling, building, created, with its progress
none      -         yes        failed, with reason and message
yes       create    -          the work, until it runs
yes       remove    -          removing, everything else as seen
yes       other     -          as seen, with what is under way as progress
yes       -         yes        as seen, with reason and message
yes       -         -          as seen
none      remove    -          removing: a create that is given up may still bring a container
none      -         -          nothing: it is absent
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from toolkeeper.node.masking import Mask
from toolkeeper.node.notebook import Page
from toolkeeper.node.runtime import Seen
from toolkeeper.planning.observed import Container, DockerState, Handshake
from toolkeeper.reconcile.ports import ProbeCredential

Verb = Literal["create", "start", "stop", "restart", "remove"]

_DOING: dict[Verb, str] = {
    "create": "",
    "start": "starting",
    "stop": "stopping",
    "restart": "restarting",
    "remove": "draining",
}
_ON_ITS_WAY = frozenset({"pending", "pulling", "building", "created", "removing"})
_STARTED = frozenset({"running", "paused", "restarting"})
_PROBED = frozenset({"running", "paused", "removing"})


@dataclass(frozen=True, slots=True)
class Work:
    """What is being done with a container."""

    verb: Verb
    began: float
    """Monotonic."""
    sketch: Container
    """The container as it will be called, for as long as there is none to see."""
    state: DockerState = "pending"
    text: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """What was being done, and why it failed."""

    reason: str
    message: str
    at: float
    """Monotonic."""
    sketch: Container


@dataclass(frozen=True, slots=True)
class Probed:
    """What probing found out about one run."""

    run: str
    handshake: Handshake
    failures: int = 0


@dataclass(slots=True)
class Entry:
    """Everything the node knows about one name. Mutable; the ledger is its only writer."""

    name: str
    installation: str
    seen: Seen | None = None
    began: float = 0.0
    """Monotonic time of `seen.since`, fixed when it was first seen, so that a jumping clock does not age it."""
    work: Work | None = None
    failure: Failure | None = None
    probed: Probed | None = None
    page: Page | None = None
    """The last successful handshake of the current run, with its definitions."""
    credential: ProbeCredential | None = None
    """What probes of this very container show. Never leaves the memory of this process."""
    secrets: frozenset[str] = field(default=frozenset(), repr=False)
    """Values that its container knows."""
    shown: tuple[str, ...] = field(default=(), repr=False)
    """Values that its probes show and showed before, the latest first."""
    mask: Mask = field(default_factory=Mask)
    """Of both."""
    view: Container | None = None
    """What `state` shows, but for the age."""
    pieces: tuple[bytes, bytes] | None = None
    """`view` as JSON, before and after the age."""

    def age(self, now: float) -> float:
        """Seconds since the current start, or since the work on it began, or failed."""
        began = self.began
        if self.seen is None:
            began = self.work.began if self.work else self.failure.at if self.failure else now
        elif self.failure is not None and self.seen.container.state not in _STARTED:
            began = max(began, self.failure.at)
        return max(0.0, now - began)


def run_of(container: Container) -> str:
    """What tells one run of one container from every other."""
    return f"{container.container_id}:{container.run_id}"


def values_of(credential: ProbeCredential) -> tuple[str, ...]:
    """What must be seen nowhere: the credential, also without the scheme that it may name."""
    value = credential.value.strip()
    return tuple(filter(None, (value, value.partition(" ")[2].strip())))


def compose(entry: Entry) -> Container | None:
    """What `state` shows of it, with age 0; None when it is absent."""
    container = _composed(entry)
    if container is None:
        return None
    return replace(
        container,
        error=entry.mask(container.error)[:2048],
        progress=entry.mask(container.progress)[:2048],
        last_log=tuple(entry.mask(line)[:2048] for line in container.last_log[-20:]),
        probe_credential="" if entry.credential is None else entry.credential.version,
    )


def presses(before: Container | None, after: Container | None, *, more_to_come: bool = False) -> bool:
    """Whether somebody may want to act on the change at once.

    Not while a container is only on its way, and not when it has arrived while others still are.
    """
    if after is None or after.error_reason:
        return True
    if after.state in _ON_ITS_WAY:
        return False
    if after.state == "running" and (before is None or not _answers(before)):
        return _answers(after) and not more_to_come
    return True


def is_coming(entry: Entry) -> bool:
    """Whether it is being created, or runs and may answer its first probe any moment."""
    if entry.work is not None:
        return entry.work.verb == "create"
    view = entry.view
    return view is not None and view.state == "running" and view.handshake is None


def _answers(container: Container) -> bool:
    return container.handshake is not None and container.handshake.ok


def _composed(entry: Entry) -> Container | None:
    seen, work, failure = entry.seen, entry.work, entry.failure
    if seen is None:
        if work is not None and work.verb == "create":
            return _on_its_way(work.sketch, work)
        if work is not None:
            return replace(work.sketch, state="removing", progress=_DOING[work.verb])
        if failure is not None:
            return replace(failure.sketch, state="failed", error_reason=failure.reason, error=failure.message)
        return None
    container = _with_handshake(seen.container, entry.probed)
    if work is not None:
        if work.verb == "create" and container.state not in _STARTED:
            return _on_its_way(container, work)
        state = "removing" if work.verb == "remove" else container.state
        return _with_handshake(replace(seen.container, state=state, progress=_DOING[work.verb]), entry.probed)
    if failure is not None:
        return replace(container, error_reason=failure.reason, error=failure.message)
    return container


def _on_its_way(container: Container, work: Work) -> Container:
    # The runtime sees a container as `created` for the moment before it starts; the work's own word is newer.
    joint = " " if work.state == "pulling" else ": "  # `pulling 43 %`, `building: installing packages`
    progress = f"{work.state}{joint}{work.text}" if work.text else work.state
    return replace(container, state=work.state, progress=progress)


def _with_handshake(container: Container, probed: Probed | None) -> Container:
    if probed is None or container.state not in _PROBED or probed.run != run_of(container):
        return container
    return replace(container, handshake=probed.handshake, probe_failures=probed.failures)
