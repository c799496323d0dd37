"""What the loop needs of the world. Adapters fit by shape; each verb says what it guarantees."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

from toolkeeper.planning.instance import Instance
from toolkeeper.planning.observed import Snapshot

if TYPE_CHECKING:  # the node agent, on every host, needs the toolbox's part of this module, and no resource
    from toolkeeper.resources.agentconnection import AgentConnection
    from toolkeeper.resources.events import Event
    from toolkeeper.resources.mcpserver import MCPServer
    from toolkeeper.resources.meta import Key
    from toolkeeper.resources.toolbox import Toolbox

Resource: TypeAlias = "Toolbox | MCPServer | AgentConnection"


@dataclass(frozen=True, slots=True)
class Problem:
    """A piece of the source that could not be read. Its last good content stays in force."""

    source: str
    """`file:line`, a row, an object."""
    message: str
    """What is wrong and what to do."""
    key: Key | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """Everything a store holds now.

    `complete` is False when anything could not be read and its last good content is unknown, when a source vanished or
    shrank sharply: then nothing may be concluded from the absence of an object.
    """

    resources: tuple[Resource, ...]
    complete: bool = True
    problems: tuple[Problem, ...] = ()
    revision: str = ""
    """What people call this state of the source: a Git commit, empty elsewhere."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something changed. `key` None means: list again."""

    key: Key | None = None
    edited: bool = True
    """A person's edit (spec, annotation, deletion), not our own status write."""


@dataclass(frozen=True, slots=True)
class Secret:
    """The values of a secret. Never printed: `repr` shows the keys only."""

    values: Mapping[str, str] = field(repr=False)
    labels: Mapping[str, str] = field(default_factory=dict)


class Store(Protocol):
    """Where desired state comes from and status goes to."""

    async def list(self) -> Listing:
        """All resources. Raises Unreachable when the source does not answer."""
        ...

    def watch(self) -> AsyncIterator[Change]:
        """Changes from now on; may repeat, coalesce or reorder; ends only when closed. Never the only truth."""
        ...

    async def write_status(self, resource: Resource) -> Resource:
        """Write `resource.status`, guarded by its `metadata.uid` and `resource_version`.

        Returns the resource with its new version. Raises Conflict (somebody was faster), NotFound, Unreachable.
        """
        ...

    async def set_finalizer(self, resource: Resource, *, present: bool) -> Resource:
        """Add or remove our finalizer, guarded likewise. Removing it from a deleted object lets it go."""
        ...

    async def secret(self, namespace: str, name: str) -> Secret:
        """Read a secret now. Raises NotFound, Refused (not marked for use), Unreachable."""
        ...

    async def issue_token(self, connection: AgentConnection) -> bool:
        """Make sure that the agent of this very connection (by uid) has a token, in the secret `token_secret`.

        Returns whether it was made now. What somebody else keeps under that name is neither read nor replaced. Raises
        Refused (it is somebody else's; not allowed; this store keeps no tokens), NotFound, Unreachable.
        """
        ...

    async def emit(self, event: Event) -> None:
        """Record an event. Best effort: raises nothing but cancellation."""
        ...


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to write to one node, for one installation."""

    installation: str
    epoch: int


@dataclass(frozen=True, slots=True)
class InstanceRequest:
    """Everything the node needs to make one container exist."""

    namespace: str
    server: str
    hash: str
    uid: str
    instance: Instance
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """`<secret name>/<key>` → value."""
    registry_username: str = ""
    registry_password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class ProbeCredential:
    """What probes of a server show it."""

    version: str
    """What `state` calls it; tells nothing about the value."""
    value: str = field(repr=False)


class ToolboxClient(Protocol):
    """One toolbox. All writes are fenced by the claim and safe to repeat.

    Raises Unreachable (no believable answer), Refused (it said no, with a reason), Fenced (a newer claim exists),
    NotFound, Conflict (a precondition such as container_id no longer holds).
    """

    async def state(self, installation: str, *, since: str = "", wait: float = 0.0) -> Snapshot:
        """The state; with `since` and `wait`, as soon as its revision is another, or after `wait` seconds."""
        ...

    async def claim(self, installation: str, expected_epoch: int) -> Claim:
        """Become the writer: the epoch goes from `expected_epoch` to the next. Raises Fenced if it is another."""
        ...

    async def create(self, claim: Claim, container: str, request: InstanceRequest) -> None:
        """Make the container exist and run. Returns when accepted; progress shows in `state`."""
        ...

    async def start(self, claim: Claim, container: str) -> None:
        """Start a stopped container."""
        ...

    async def stop(self, claim: Claim, container: str, *, drain: int) -> None:
        """Stop a running container, giving it `drain` seconds."""
        ...

    async def restart(self, claim: Claim, container: str, *, run_id: str) -> None:
        """Restart, if `run_id` is still its run; otherwise Conflict."""
        ...

    async def remove(self, claim: Claim, container: str, *, container_id: str, drain: int) -> None:
        """Remove the container (any work on it is cancelled first). Absent is success."""
        ...

    async def remove_volume(self, claim: Claim, volume: str) -> None:
        """Remove a volume of ours. Absent is success."""
        ...

    async def give_credential(
        self, claim: Claim, container: str, credential: ProbeCredential, *, container_id: str
    ) -> None:
        """Show it in every probe of that very container (empty: of the one with the name) from now on.

        Kept in memory only; `state` shows its version until the container or the node agent ends.
        """
        ...

    async def take_credential(self, claim: Claim, container: str, *, container_id: str) -> None:
        """Forget it. Absent is success."""
        ...

    def logs(self, container: str, *, tail: int, follow: bool) -> AsyncIterator[str]:
        """Log lines, masked by the node."""
        ...

    async def aclose(self) -> None:
        """Give connections back."""
        ...


class Lease(Protocol):
    """Leadership among operators of one installation."""

    async def acquire(self) -> None:
        """Wait until this process leads. Called again while leading, it makes sure of that (renews) and returns."""
        ...

    async def lost(self) -> None:
        """Wait until leadership is gone; then this process must stop writing."""
        ...

    async def release(self) -> None:
        """Give it up at once."""
        ...
