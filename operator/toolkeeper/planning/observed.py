"""What a host reports. Not knowing is a value: `Unreachable` is not an empty `Snapshot`.

These are the wire types of the node's `state` as well, so they are bounded: a host is untrusted input.
Hosts report ages in seconds, never timestamps: no two clocks are ever compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from toolkeeper.planning.instance import Short

Message = Annotated[str, Field(max_length=2048)]
DockerState = Literal[
    "pending",
    "pulling",
    "building",
    "created",
    "running",
    "paused",
    "restarting",
    "removing",
    "exited",
    "dead",
    "failed",
]
"""Docker's container states, and before them what our node does: pending, pulling, building; failed = could not
be created, with `error_reason` saying why (there is no container then, or only a created one)."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """The last MCP probe of a container. `ok` covers an answer that asks for (other) credentials."""

    ok: bool
    reason: Short
    """Reachable, AuthRequired, CredentialsRefused, ConnectionRefused, Timeout, BoundToLoopback, HostRejected, NotMCP,
    StdoutNoise, ProtocolViolation, HttpError, Exited."""
    message: Message = ""
    era: Literal["", "modern", "legacy"] = ""
    protocol_version: Short = ""
    server_name: Short = ""
    server_version: Short = ""
    capabilities: Annotated[tuple[Short, ...], Field(max_length=64)] = ()
    tools: Annotated[tuple[Short, ...], Field(max_length=1000)] = ()
    tools_hash: Short = ""
    tool_hashes: Annotated[tuple[tuple[Short, Short], ...], Field(max_length=1000)] = ()
    findings: Annotated[tuple[Short, ...], Field(max_length=64)] = ()
    credential: Short = ""
    """The version of the credential that this probe showed; empty: none."""


@dataclass(frozen=True, slots=True)
class Live:
    """The fields of a running container that somebody else could have edited."""

    memory: int = 0
    nano_cpus: int = 0
    pids: int = 0
    cap_drop: tuple[Short, ...] = ()
    cap_add: tuple[Short, ...] = ()
    read_only_root: bool = False
    user: Short = ""
    env_names: Annotated[tuple[Short, ...], Field(max_length=1024)] = ()
    mounts: Annotated[tuple[Short, ...], Field(max_length=256)] = ()
    """Destination paths of volumes and files."""
    networks: Annotated[tuple[Short, ...], Field(max_length=64)] = ()
    """Which of ours it is on: `internal`, `egress`, or the name of a foreign or peer network."""
    restart: Short = ""
    """`Always`, `OnFailure`, `Never`, or the runtime's word for another policy; empty where the agent does not say."""


@dataclass(frozen=True, slots=True)
class Container:
    """One container (or one on its way) that carries our mark."""

    name: Short
    """`tk_<installation>_<namespace>_<server>_<hash8>`; also its id in the node's API."""
    installation: Short
    namespace: Short
    server: Short
    hash: Short
    renderer: int
    state: DockerState
    container_id: Short = ""
    run_id: Short = ""
    """Opaque; changes with every start of the process. Precondition of a restart."""
    image: Short = ""
    image_digest: Short = ""
    age: float = 0.0
    """Seconds since the container's current start (or since the work on it began). Does not bump the revision."""
    restarts: int = 0
    exit_code: int | None = None
    oom_killed: bool = False
    progress: Message = ""
    """`pulling 43 %`, `building: installing packages`; empty when nothing is under way."""
    error_reason: Short = ""
    """ImagePullFailed, ImageNotFound, RegistryDenied, BuildFailed, CreateFailed, StartFailed, PortInUse,
    FilesUnavailable, NoSpace, RuntimeUnsupported. With `failed`; and with any other state after work on the container
    has failed: then, unless it runs, `age` counts from that failure."""
    error: Message = ""
    last_log: Annotated[tuple[Message, ...], Field(max_length=20)] = ()
    address: Short = ""
    """`http://host:port/path` for HTTP transports as the host reaches it; empty for stdio."""
    live: Live | None = None
    """None while there is no container, or where the runtime has no such notion (process)."""
    handshake: Handshake | None = None
    """None = not probed since its current start."""
    probe_failures: int = 0
    """Failed probes in a row after the first success."""
    volumes: Annotated[tuple[Short, ...], Field(max_length=16)] = ()
    probe_credential: Short = ""
    """The version of the credential that its probes show from now on; empty: none."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything of one installation on one host at one revision."""

    revision: Short
    """`<boot>:<n>`; a new boot means the node agent restarted."""
    runtime: Literal["docker", "process", "fake"]
    runtime_ok: bool = True
    """False: the node lives but its Docker does not answer; then nothing is known about containers."""
    runtime_message: Message = ""
    agent_version: Short = ""
    features: Annotated[tuple[Short, ...], Field(max_length=128)] = ()
    containers: Annotated[tuple[Container, ...], Field(max_length=10000)] = ()
    foreign: int = 0
    capacity_memory: int = 0
    """Bytes of the host."""
    capacity_nano_cpus: int = 0
    epoch: int = 0
    """The highest epoch that the node has accepted for this installation."""
    volumes: Annotated[tuple[Short, ...], Field(max_length=10000)] = ()
    """Named volumes of this installation."""


UNASKED = frozenset(
    {"SecretInvalid", "SecretMissing", "SecretNotMarked", "SecretRefused", "SecretUnreadable"}
)
"""Why a host was not even asked: what it takes to speak with it is not to be had."""


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The host did not answer, or not in a way that can be believed."""

    reason: Short
    """A reason of `toolkeeper.resources.reasons`, such as ToolboxUnreachable, AuthenticationFailed,
    CertificateMismatch, RuntimeUnavailable, NeverSeen."""
    message: Message = ""
    held: frozenset[tuple[str, str]] | None = None
    """(namespace, server) of the containers it held when it last answered; None = it never answered this process.
    For placement: what a silent toolbox holds must not be started elsewhere."""


Observation = Snapshot | Unreachable
