"""What the node needs of a runtime. Docker and child processes fit by shape; nothing above this line knows which.

A runtime acts and reports; it decides nothing, remembers nothing but what survives it (labels, records on disk), knows
no claims, no probes and no revisions. The ledger above it serialises the calls for one container (never two at a time
for one name), bounds how many creates run at once, and re-checks the claim through `step`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol

from toolkeeper.planning.observed import Container, DockerState
from toolkeeper.reconcile.ports import InstanceRequest

Step = Callable[[DockerState, str], None]
"""`step(state, text)`: say what comes next, as state (`pulling`, `building`, `created`, `pending`) and as text for
people (`43 %`, `installing mcp-server-time`; the state's word is put before it).

Call it before every side effect, and as often as there is progress (it throttles). It raises Fenced when a newer leader
has claimed the host, or the container is to be removed: let that through."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One container that carries our mark, as it is now.

    `container` is whole except for what only the ledger knows: `age` 0, `progress` empty, `handshake` None and
    `probe_failures` 0. `last_log` (at most 20 lines, stderr and, but for stdio servers, stdout) is filled when it is
    exited, dead or restarting; not masked. What changes by itself (statistics, ages) is nowhere in here: two equal
    `Seen` mean that nothing happened.
    """

    container: Container
    transport: Literal["stdio", "streamable-http", "sse"]
    since: float | None = None
    """Start of its current run (or creation, before one), as this host's wall clock, in Unix seconds."""
    host_header: str = ""
    probe_interval: int = 15
    port: int = 0
    """Where the server listens, as the server itself sees it; 0 for stdio."""
    secrets: frozenset[str] = field(default=frozenset(), repr=False)
    """Values that it got as secrets, as far as the host can still tell: a restarted agent masks with these."""


@dataclass(frozen=True, slots=True)
class Sight:
    """Everything the runtime sees, at one moment."""

    containers: Mapping[str, Seen]
    """By name; ours (all installations) only."""
    unmarked: int = 0
    """Containers without our mark. Counted, never touched."""
    volumes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Installation → names of its volumes, sorted."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the host has: bytes, billionths of a CPU."""

    memory: int
    nano_cpus: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What a container uses now."""

    cpu: float
    """Cores: 0.5 is half a core, over the time since the last look (0 on the first)."""
    memory: int
    """Bytes, without the page cache."""
    memory_limit: int
    pids: int


class ByteStream(Protocol):
    """The standard streams of a stdio server: stdin one way, stdout the other. stderr goes to the log."""

    async def send(self, chunk: bytes) -> None:
        """Write to its stdin. Raises Unreachable when it is gone."""
        ...

    async def receive(self) -> bytes:
        """Some bytes of its stdout; empty at the end."""
        ...


class Runtime(Protocol):
    """One way of running instances on this host.

    Every method may raise Unreachable(reason="RuntimeUnavailable"): the daemon does not answer, nothing is known. What
    creates or starts raises Refused with a reason of `observed.Container.error_reason`: ImageNotFound, ImagePullFailed,
    RegistryDenied, BuildFailed, CreateFailed, StartFailed, PortInUse, FilesUnavailable, NoSpace, RuntimeUnsupported;
    its message ends with what the other side said last (build output, daemon message).

    Cancellation: nothing of a call may happen after it was cancelled. A blocking call that is under way in a thread is
    waited for (shielded) before the cancellation goes on; what it left (a created container) is for `remove`.
    """

    @property
    def name(self) -> Literal["docker", "process"]:
        """What `Snapshot.runtime` says."""
        ...

    @property
    def features(self) -> frozenset[str]:
        """What is really enforced here, in the words of `toolkeeper.node.features`. Valid once open."""
        ...

    async def open(self) -> None:
        """Connect and prepare (networks, firewall, re-adoption).

        Raises Unreachable (the daemon does not answer), Refused(reason="RuntimeUnsupported") (it answers but cannot be
        used from here, such as unreachable container addresses; says why in one sentence).
        """
        ...

    async def aclose(self) -> None:
        """Give connections back. Containers stay as they are. A second call does nothing."""
        ...

    async def leave(self, installation: str) -> None:
        """Remove what only the containers of that installation needed, such as networks. Volumes and images stay.

        Raises Conflict while it has containers.
        """
        ...

    async def capacity(self) -> Capacity:
        """What the host has."""
        ...

    async def look(self) -> Sight:
        """Look at everything."""
        ...

    async def look_at(self, name: str) -> Seen | None:
        """Look at one container of ours again; None when there is none of that name (or it is not ours)."""
        ...

    def changes(self) -> AsyncIterator[str]:
        """Names of containers to look at again, as it happens; the empty string: look at everything again.

        Yields the empty string first, once it is listening, so that nothing between falls through. Repeats and
        strangers are fine. Raises Unreachable when the daemon goes away; the caller calls it again, with back-off.
        """
        ...

    async def create(self, name: str, installation: str, request: InstanceRequest, step: Step) -> None:
        """Pull or build what it needs, create the container, start it. Returns once it was started.

        Marks it with installation, namespace, server, hash, renderer, uid and with what `Seen` needs after a restart
        of the agent. Idempotent: one of that name that is ours and runs is success, one that was created or exited is
        started. One of that name that is not ours: Refused(reason="CreateFailed"), untouched.
        """
        ...

    async def start(self, name: str) -> None:
        """Start a stopped one; running is success. Raises NotFound, Refused."""
        ...

    async def stop(self, name: str, drain: int) -> None:
        """Ask it to end, kill it after `drain` seconds; it stays, and nothing starts it again by itself.

        Stopped is success. Raises NotFound.
        """
        ...

    async def restart(self, name: str) -> None:
        """End its run (at most 10 s grace) and start another. Raises NotFound, Refused."""
        ...

    async def remove(self, name: str, drain: int) -> None:
        """Stop it as `stop` does, remove it and everything of it but its volumes and images. Absent is success.

        One of that name that is not ours: Refused(reason="NotOurs").
        """
        ...

    async def remove_volume(self, installation: str, volume: str) -> None:
        """Remove a volume of that installation. Absent is success.

        Raises Refused(reason="NotOurs") for another's, Conflict while it is in use.
        """
        ...

    def logs(self, name: str, *, tail: int, follow: bool) -> AsyncIterator[str]:
        """Its log lines (without line ends, bounded in length), the last `tail` first, not masked.

        As in `Seen`: of a stdio server only stderr. With `follow` until it ends or the caller closes the iterator.
        Raises NotFound.
        """
        ...

    async def usage(self, names: frozenset[str]) -> Mapping[str, Usage]:
        """What those of them that run use now."""
        ...

    def attach(self, name: str) -> AbstractAsyncContextManager[ByteStream]:
        """Its standard streams, for a stdio server. Leaving closes neither of them for the server.

        Raises NotFound, Unreachable when it does not run.
        """
        ...

    async def listening_on_loopback(self, name: str) -> bool | None:
        """Whether it listens on `Seen.port` on its own loopback alone, where nobody else reaches it; None: unknown."""
        ...
