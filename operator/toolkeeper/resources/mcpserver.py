"""MCPServer: one MCP server that is kept running on a toolbox."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from toolkeeper.resources.conditions import Condition
from toolkeeper.resources.meta import API_VERSION, Glob, Key, Lenient, Metadata, Model, Name, ShortText, Text

Quantity = Annotated[
    str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]{1,3})?(m|k|M|G|Ki|Mi|Gi)?$", max_length=20)
]
"""A Kubernetes quantity such as `512Mi` or `500m`; read it with `toolkeeper.resources.quantity`."""
EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$", max_length=128)]
HostPort = Annotated[
    str, StringConstraints(pattern=r"^(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?:[0-9]{1,5}$", max_length=260)
]
AbsolutePath = Annotated[str, StringConstraints(pattern=r"^/[^\x00\s]*$", max_length=1024)]
Transport = Literal["stdio", "streamable-http", "sse"]
Profile = Literal["restricted", "baseline", "permissive"]
ImageName = Annotated[
    str,
    StringConstraints(
        pattern=r"^[a-z0-9]([a-z0-9._/:-]*[a-z0-9])?(:[A-Za-z0-9_][A-Za-z0-9._-]*)?(@sha256:[0-9a-f]{64})?$",
        max_length=512,
    ),
]


class SecretKeyRef(Model):
    """One key of a Secret in the same namespace."""

    name: ShortText
    """Name of the Secret."""
    key: ShortText
    """Key within the Secret."""


class ValueFrom(Model):
    """Where a value comes from when it is not written down."""

    secret_key_ref: SecretKeyRef
    """A key of a Secret."""


class EnvVar(Model):
    """One environment variable: either a value or a reference to a secret."""

    name: EnvName
    """Name of the variable."""
    value: Text | None = None
    """The value, as text. `{{port}}` becomes the port that the server must listen on."""
    value_from: ValueFrom | None = None
    """Where the value comes from."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.value is None) == (self.value_from is None):
            raise ValueError("exactly one of value, valueFrom must be set")
        return self


class FileMount(Model):
    """A small file that the server finds at `path`, kept in memory on the host."""

    path: AbsolutePath
    """Where the server sees it."""
    value: Annotated[str, StringConstraints(max_length=65536)] | None = None
    """The content."""
    secret_ref: SecretKeyRef | None = None
    """The secret that holds the content."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.value is None) == (self.secret_ref is None):
            raise ValueError("exactly one of value, secretRef must be set")
        return self


class Volume(Model):
    """A named volume that outlives containers."""

    name: Name
    """Name of the volume within the server."""
    path: AbsolutePath
    """Where it is mounted."""
    read_only: bool = False
    """Mounted without the right to write; a writable volume implies the Recreate strategy."""


class Package(Model):
    """A package of PyPI or npm at an exact version; it becomes an image built on the host."""

    registry: Literal["pypi", "npm"]
    """Which registry."""
    name: Annotated[str, StringConstraints(pattern=r"^(@[a-z0-9~-][a-z0-9._~-]*/)?[A-Za-z0-9][A-Za-z0-9._~-]*$", max_length=214)]
    """Name of the package."""
    version: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+!_-]*$", max_length=64)]
    """The exact version; ranges and `latest` are refused."""
    with_: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9@][^\s;|&$`]*$", max_length=256)], ...],
        Field(alias="with", max_length=64),
    ] = ()
    """Companions installed with it, pinned or bounded: `mcp<2`."""
    system: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9+.-]+$", max_length=64)], ...],
        Field(max_length=32),
    ] = ()
    """Debian packages that it needs, such as `git`."""

    @model_validator(mode="after")
    def _exact(self) -> Self:
        if self.version == "latest":
            raise ValueError("version must be exact, not 'latest'")
        return self


class CatalogEntry(Model):
    """An entry of an MCP catalog (`server.json`)."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+$", max_length=200)]
    """Reverse-DNS name of the entry."""
    version: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    """Exact version of the entry."""


class Remote(Model):
    """A server that runs elsewhere."""

    url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s]+$", max_length=2048)]
    """Its MCP endpoint."""


class Resources(Model):
    """Hard limits of the container."""

    memory: Quantity = "512Mi"
    """Memory; swap is never added."""
    cpu: Quantity = "1"
    """CPUs, as a quantity (`500m` = half a core)."""
    pids: Annotated[int, Field(ge=1, le=32768)] = 256
    """Processes and threads."""


class Security(Model):
    """What the container may do on its host. Exceptions are explicit and show in status."""

    profile: Profile = "restricted"
    """Preset: restricted (default), baseline (writable root file system, image's user), permissive."""
    cap_add: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z_]{2,31}$")], ...], Field(max_length=16)
    ] = ()
    """Capabilities added back, without the CAP_ prefix."""
    run_as_user: Annotated[int, Field(ge=0, le=4294967294)] | None = None
    """Numeric uid; 0 needs the profile permissive."""
    writable_root: bool = False
    """A writable root file system under the restricted profile."""


class Egress(Model):
    """Connections out of the container."""

    default: Literal["deny", "allow"] = "deny"
    """What happens to a host that is not listed."""
    allow: Annotated[tuple[HostPort, ...], Field(max_length=64)] = ()
    """`host:port` pairs that may be reached."""


class Network(Model):
    """Whom the container may talk to."""

    egress: Egress = Egress()
    """Connections out."""
    peers: Annotated[tuple[Name, ...], Field(max_length=16)] = ()
    """Other MCPServers of the namespace on the same toolbox that it can reach by name."""


class Health(Model):
    """When a running server counts as failed."""

    startup_seconds: Annotated[int, Field(ge=1, le=3600)] = 60
    """From container start to the first successful handshake."""
    interval_seconds: Annotated[int, Field(ge=1, le=3600)] = 15
    """Between probes of an HTTP server."""
    failure_threshold: Annotated[int, Field(ge=1, le=100)] = 3
    """Failed probes in a row before a restart."""
    credentials_ref: SecretKeyRef | None = None
    """A bearer token for the probe of a server that asks for one."""


class Rollout(Model):
    """How a new version takes over."""

    strategy: Literal["HealthGated", "Recreate"] = "HealthGated"
    """HealthGated starts the new one beside the old; Recreate stops the old one first."""
    deadline_seconds: Annotated[int, Field(ge=5, le=3600)] = 120
    """From container start to a passed gate; then the new version has failed."""
    drain_seconds: Annotated[int, Field(ge=0, le=600)] = 10
    """How long the old one may finish its calls."""
    on_failure: Literal["Rollback", "Keep"] = "Rollback"
    """Rollback removes the failed version; Keep leaves it for inspection."""


class Access(Model):
    """The ceiling that connections can only narrow."""

    agents: Annotated[tuple[Glob, ...], Field(max_length=256)] = ()
    """Globs over `<namespace>/<agent>`."""
    tools: Annotated[tuple[Glob, ...], Field(max_length=1024)] = ()
    """Globs over tool names."""


class ToolPinning(Model):
    """What happens when the tool definitions are not the approved ones."""

    pin: Literal["Off", "Warn", "Enforce"] = "Warn"
    """Off, Warn (reported) or Enforce (blocked)."""
    approved: Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")] | None = None
    """The hash of the approved definitions."""


class MCPServerSpec(Model):
    """What is wanted of an MCP server."""

    toolbox_ref: Name | None = None
    """The toolbox it runs on."""
    toolbox_selector: dict[str, str] | None = Field(default=None, max_length=32)
    """Labels of the toolboxes it may run on; placed by free capacity, and it stays there."""
    image: ImageName | None = None
    """Container image."""
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    """When the image is pulled."""
    pull_secret_ref: ShortText | None = None
    """A Secret with the keys `username` and `password` for the registry."""
    package: Package | None = None
    """A package that becomes an image built on the host."""
    catalog: CatalogEntry | None = None
    """An entry of a catalog."""
    remote: Remote | None = None
    """A server that runs elsewhere."""
    transport: Transport = "streamable-http"
    """How it speaks MCP."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """The port that it listens on (default 8000 for HTTP transports)."""
    path: AbsolutePath | None = None
    """The path of its endpoint (default `/mcp`, for sse `/sse`)."""
    host_header: ShortText | None = None
    """The Host header that it insists on."""
    command: Annotated[tuple[Text, ...], Field(max_length=64)] = ()
    """Replaces the image's entrypoint."""
    args: Annotated[tuple[Text, ...], Field(max_length=256)] = ()
    """Arguments. `{{port}}` becomes the port."""
    env: Annotated[tuple[EnvVar, ...], Field(max_length=256)] = ()
    """Environment."""
    files: Annotated[tuple[FileMount, ...], Field(max_length=32)] = ()
    """Files in memory."""
    volumes: Annotated[tuple[Volume, ...], Field(max_length=16)] = ()
    """Named volumes."""
    resources: Resources = Resources()
    """Limits."""
    security: Security = Security()
    """Hardening."""
    network: Network = Network()
    """Reach."""
    running: bool = True
    """False stops the server and keeps its container."""
    restart_policy: Literal["Always", "OnFailure", "Never"] = "Always"
    """What the host does when the process ends."""
    health: Health = Health()
    """Health."""
    rollout: Rollout = Rollout()
    """Rollout."""
    exclusive: bool = False
    """Never two at a time, not even during a rollout."""
    sessions: Literal["perAgent", "shared"] = "perAgent"
    """For stdio: one container per session, or one for all."""
    access: Access = Access()
    """Who may use it at most."""
    tools: ToolPinning = ToolPinning()
    """Pinning of tool definitions."""
    deletion_policy: Literal["Delete", "Orphan"] = "Delete"
    """What happens to the container when this object is deleted."""
    reclaim: Literal["Retain", "Delete"] = "Retain"
    """What happens to its volumes then."""
    paused: bool = False
    """Observed and reported, never acted upon."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        sources = (self.image, self.package, self.catalog, self.remote)
        if sum(each is not None for each in sources) != 1:
            raise ValueError("exactly one of image, package, catalog, remote must be set")
        if self.remote is None and (self.toolbox_ref is None) == (self.toolbox_selector is None):
            raise ValueError("exactly one of toolboxRef, toolboxSelector must be set")
        if self.transport == "stdio" and (self.port is not None or self.path is not None):
            raise ValueError("port and path have no meaning with transport stdio")
        if self.transport == "stdio" and self.remote is not None:
            raise ValueError("a remote server cannot use transport stdio")
        if self.security.run_as_user == 0 and self.security.profile != "permissive":
            raise ValueError("security.runAsUser 0 needs security.profile permissive")
        for what, names in (
            ("env", [each.name for each in self.env]),
            ("volumes", [each.name for each in self.volumes]),
            ("files", [each.path for each in self.files]),
        ):
            if len(names) != len(set(names)):
                raise ValueError(f"{what} has the same name twice")
        return self


Phase = Literal["active", "stopped", "starting", "error", "unknown"]


class RolloutRecord(Lenient):
    """One finished or failed rollout; the spec is whole, because rollback needs it."""

    hash: str
    outcome: Literal["Succeeded", "RolledBack", "Failed"]
    reason: str = ""
    message: str = ""
    generation: int = 0
    image: str = ""
    finished_at: datetime | None = None
    spec: dict[str, object] = Field(default_factory=dict)


class ServerMemory(Lenient):
    """What the planner must remember across a crash. Written before the act that it explains."""

    failed_hash: str = ""
    """The hash whose rollout failed; not tried again until the wanted hash changes."""
    failed_reason: str = ""
    failed_message: str = ""
    health_restarts: int = 0
    """Restarts for failed health of the wanted hash, spent from a budget."""


class MCPServerStatus(Lenient):
    """What was observed of an MCP server. Changes only at transitions."""

    observed_generation: int = -1
    phase: Phase = "unknown"
    conditions: tuple[Condition, ...] = ()
    toolbox: str = ""
    endpoint: str = ""
    image: str = ""
    image_digest: str = ""
    container: str = ""
    container_id: str = ""
    running_hash: str = ""
    wanted_hash: str = ""
    memory: ServerMemory = ServerMemory()
    server_name: str = ""
    server_version: str = ""
    era: str = ""
    protocol_version: str = ""
    capabilities: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    tools_hash: str = ""
    agents: int = 0
    restarts: int = 0
    exit_code: int | None = None
    last_log: tuple[str, ...] = ()
    history: tuple[RolloutRecord, ...] = ()


class MCPServer(Model):
    """One MCP server that is kept running on a toolbox."""

    api_version: Literal["toolkeeper.dev/v1alpha1"] = API_VERSION
    kind: Literal["MCPServer"] = "MCPServer"
    metadata: Metadata
    spec: MCPServerSpec
    status: MCPServerStatus = MCPServerStatus()

    @property
    def key(self) -> Key:
        return Key("MCPServer", self.metadata.namespace, self.metadata.name)
