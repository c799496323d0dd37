"""MCPServer: one MCP server that is kept running on a toolbox.

Longer than its neighbours on purpose: it is the vocabulary of one manifest, read from top to bottom.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import MaxLen
from pydantic import Field, StringConstraints

from toolkeeper.errors import Invalid
from toolkeeper.resources import shapes
from toolkeeper.resources.conditions import Conditions
from toolkeeper.resources.meta import (
    API_VERSION,
    NO_NUL,
    NO_SPACE,
    Glob,
    Key,
    LabelKey,
    LabelValue,
    Lenient,
    Metadata,
    Model,
    Name,
    Observed,
    Text,
)
from toolkeeper.resources.quantity import amount
from toolkeeper.resources.rules import KeyedBy, Rule, Ruled, exactly_one

Transport = Literal["stdio", "streamable-http", "sse"]
Profile = Literal["restricted", "baseline", "permissive"]
MOST_NAMED = 1024
"""Things that a status names one by one at most: a cluster refuses a longer list, and with it the whole status."""
Observations = Annotated[tuple[Observed, ...], Field(json_schema_extra={"maxItems": MOST_NAMED})]


class SecretKeyRef(Model):
    """One key of a Secret in the same namespace."""

    name: shapes.SecretName
    """Name of the Secret."""
    key: shapes.SecretKey
    """Key within the Secret."""


class ValueFrom(Model):
    """Where a value comes from when it is not written down."""

    secret_key_ref: SecretKeyRef
    """A key of a Secret."""


class EnvVar(Ruled):
    """One environment variable: either a value or a reference to a secret."""

    RULES: ClassVar = (exactly_one("value", "valueFrom"),)

    name: shapes.EnvName
    """Name of the variable."""
    value: Text | None = None
    """The value, as text; `{{port}}` becomes the port that the server must listen on."""
    value_from: ValueFrom | None = None
    """Where the value comes from."""


NOT_IN_THE_KERNEL = Rule(
    "nothing can be mounted at or below /proc, /sys and /dev",
    lambda mount: not any(f"{mount.path}/".startswith(f"{each}/") for each in ("/proc", "/sys", "/dev")),
    "!['/proc', '/sys', '/dev'].exists(p, self.path == p || self.path.startsWith(p + '/'))",
    at="path",
)


class FileMount(Ruled):
    """A small file that the server finds at `path`, kept in memory on the host."""

    RULES: ClassVar = (exactly_one("value", "secretRef"), NOT_IN_THE_KERNEL)

    path: shapes.MountPath
    """Where the server sees it."""
    value: Annotated[str, StringConstraints(pattern=NO_NUL, max_length=65536)] | None = None
    """The content."""
    secret_ref: SecretKeyRef | None = None
    """The secret that holds the content."""


class Volume(Ruled):
    """A named volume that outlives containers."""

    RULES: ClassVar = (NOT_IN_THE_KERNEL,)

    name: Name
    """Name of the volume within the server."""
    path: shapes.MountPath
    """Where it is mounted."""
    read_only: bool = False
    """Mounted without the right to write; a writable volume implies the Recreate strategy."""


class Package(Ruled):
    """A package of PyPI or npm at an exact version; it becomes an image built on the host."""

    RULES: ClassVar = (
        Rule(
            "a name with a scope (@scope/name) needs registry npm",
            lambda package: package.registry == "npm" or not package.name.startswith("@"),
            "self.registry == 'npm' || !self.name.startsWith('@')",
            at="name",
        ),
        Rule(
            "npm takes a version without three numbers for a range; write it like 1.2.3",
            lambda package: package.registry != "npm" or shapes.is_npm_version(package.version),
            f"self.registry != 'npm' || self.version.matches(r'{shapes.NPM_VERSION}')",
            at="version",
        ),
    )

    registry: Literal["pypi", "npm"]
    """Which registry it comes from."""
    name: shapes.PackageName
    """Name of the package."""
    version: shapes.PackageVersion
    """The exact version; ranges and tags such as `latest` are refused."""
    with_: Annotated[tuple[shapes.Companion, ...], Field(alias="with", max_length=64)] = ()
    """Companions installed with it, pinned or bounded: `mcp<2`."""
    system: Annotated[tuple[shapes.DebianPackage, ...], Field(max_length=32)] = ()
    """Debian packages that it needs, such as `git`."""


class CatalogEntry(Model):
    """An entry of an MCP catalog (`server.json`)."""

    name: shapes.CatalogName
    """Reverse-DNS name of the entry."""
    version: Annotated[str, StringConstraints(pattern=NO_SPACE, max_length=255)]
    """Exact version of the entry."""


class Remote(Model):
    """A server that runs elsewhere."""

    url: shapes.HttpUrl
    """Its MCP endpoint."""


def _within(quantity: str | None, least: str, most: str) -> bool:
    try:
        return quantity is None or amount(least) <= amount(quantity) <= amount(most)
    except Invalid:
        return False


def bounded_quantity(field: str, least: str, most: str, hint: str) -> Rule:
    """The quantity in `field` lies between the two."""
    return Rule(
        f"{field} must be between {least} and {most}{hint}",
        lambda model: _within(getattr(model, field), least, most),
        f"!has(self.{field}) || (quantity(string(self.{field})).compareTo(quantity('{least}')) >= 0 && "
        f"quantity(string(self.{field})).compareTo(quantity('{most}')) <= 0)",
        at=field,
    )


class Resources(Ruled):
    """Hard limits of the container."""

    RULES: ClassVar = (
        bounded_quantity("memory", "6Mi", "16384Gi", "; a number without a unit is bytes, write 512Mi"),
        bounded_quantity("cpu", "10m", "1024", ""),
    )

    memory: shapes.Memory = "512Mi"
    """Memory in bytes, as a quantity such as `512Mi`; swap is never added."""
    cpu: shapes.Cpu = "1"
    """CPUs, as a quantity: `2`, or `500m` for half a core; a fraction must be quoted."""
    pids: Annotated[int, Field(ge=1, le=32768)] = 256
    """Number of processes and threads."""


class Security(Ruled):
    """What the container may do on its host; exceptions are explicit and show in status."""

    RULES: ClassVar = (
        Rule(
            "runAsUser 0 needs profile permissive",
            lambda security: security.run_as_user != 0 or security.profile == "permissive",
            "!has(self.runAsUser) || self.runAsUser != 0 || (has(self.profile) && self.profile == 'permissive')",
            at="runAsUser",
        ),
        Rule(
            f"of the capabilities, {', '.join(shapes.WALL_BREAKING)} need profile permissive",
            lambda security: (
                security.profile == "permissive" or not {*security.cap_add} & {*shapes.WALL_BREAKING}
            ),
            "!has(self.capAdd) || (has(self.profile) && self.profile == 'permissive') || "
            f"!self.capAdd.exists(c, c in {list(shapes.WALL_BREAKING)})",
            at="capAdd",
        ),
    )

    profile: Profile = "restricted"
    """Preset: restricted, baseline (writable root file system, the image's user) or permissive."""
    cap_add: Annotated[tuple[shapes.Capability, ...], Field(max_length=16)] = ()
    """Linux capabilities added back, without the CAP_ prefix."""
    run_as_user: Annotated[int, Field(ge=0, le=4294967294)] | None = None
    """Numeric user id of the process; 0 needs the profile permissive."""
    writable_root: bool = False
    """Whether the root file system is writable under the restricted profile."""


class Egress(Ruled):
    """Connections out of the container."""

    RULES: ClassVar = (
        Rule(
            "a list of exceptions has no meaning while default is allow",
            lambda egress: egress.default == "deny" or not egress.allow,
            "!has(self.allow) || size(self.allow) == 0 || !has(self.default) || self.default != 'allow'",
            at="allow",
        ),
    )

    default: Literal["deny", "allow"] = "deny"
    """What happens to a connection to a host that is not listed."""
    allow: Annotated[tuple[shapes.HostPort, ...], Field(max_length=64)] = ()
    """The `host:port` pairs that may be reached."""


class Network(Model):
    """Whom the container may talk to."""

    egress: Egress = Egress()
    """Connections out of the container."""
    peers: Annotated[tuple[Name, ...], Field(max_length=16)] = ()
    """Other MCPServers of the namespace on the same toolbox that it can reach by name."""


class Health(Model):
    """When a running server counts as failed."""

    startup_seconds: Annotated[int, Field(ge=1, le=3600)] = 60
    """Seconds from container start to the first successful handshake."""
    interval_seconds: Annotated[int, Field(ge=1, le=3600)] = 15
    """Seconds between probes of an HTTP server."""
    failure_threshold: Annotated[int, Field(ge=1, le=100)] = 3
    """Number of failed probes in a row before a restart."""
    credentials_ref: SecretKeyRef | None = None
    """What probes of an HTTP server show it: a bearer token, or a credential that names its scheme, as `Basic abc`."""


class Rollout(Model):
    """How a new version takes over."""

    strategy: Literal["HealthGated", "Recreate"] = "HealthGated"
    """HealthGated starts the new one beside the old; Recreate stops the old one first."""
    deadline_seconds: Annotated[int, Field(ge=5, le=3600)] = 120
    """Seconds from container start to a passed gate, after which the new version has failed."""
    drain_seconds: Annotated[int, Field(ge=0, le=600)] = 10
    """Seconds that the old one may take to finish its calls."""
    on_failure: Literal["Rollback", "Keep"] = "Rollback"
    """Rollback removes the failed version; Keep leaves it for inspection."""


class Access(Model):
    """The ceiling that connections can only narrow."""

    agents: Annotated[tuple[Glob, ...], Field(max_length=256)] = ()
    """Globs over `<namespace>/<agent>` of the agents that may be connected; empty means none."""
    tools: Annotated[tuple[Glob, ...], Field(max_length=1024)] = ()
    """Globs over names of the tools that may be granted; empty means none."""


class ToolPinning(Model):
    """What happens when the tool definitions are not the approved ones."""

    pin: Literal["Off", "Warn", "Enforce"] = "Warn"
    """Off, Warn (reported) or Enforce (blocked)."""
    approved: shapes.Sha256 | None = None
    """The hash of the approved definitions."""


def _describes_a_container(spec: MCPServerSpec) -> bool:
    lists = (spec.command, spec.args, spec.env, spec.files, spec.volumes)
    return any(lists) or any(each is not None for each in (spec.port, spec.path, spec.host_header))


def _paths_are_distinct(spec: MCPServerSpec) -> bool:
    paths = [each.path for each in spec.volumes] + [each.path for each in spec.files]
    return len(paths) == len(set(paths))


class MCPServerSpec(Ruled):
    """What is wanted of an MCP server."""

    RULES: ClassVar = (
        exactly_one("image", "package", "catalog", "remote"),
        Rule(
            "exactly one of toolboxRef, toolboxSelector must be set",
            lambda spec: (
                (spec.toolbox_ref is None) != (spec.toolbox_selector is None)
                or (spec.remote is not None and spec.toolbox_ref is None)
            ),
            "has(self.toolboxRef) != has(self.toolboxSelector) || (has(self.remote) && !has(self.toolboxRef))",
        ),
        Rule(
            "port, path and hostHeader have no meaning with transport stdio",
            lambda spec: (
                spec.transport != "stdio"
                or all(each is None for each in (spec.port, spec.path, spec.host_header))
            ),
            "!has(self.transport) || self.transport != 'stdio' || "
            "!(has(self.port) || has(self.path) || has(self.hostHeader))",
            at="transport",
        ),
        Rule(
            "health.credentialsRef has no meaning with transport stdio: its credentials come by env or files",
            lambda spec: spec.transport != "stdio" or spec.health.credentials_ref is None,
            "!has(self.transport) || self.transport != 'stdio' || "
            "!has(self.health) || !has(self.health.credentialsRef)",
            at="health",
        ),
        Rule(
            "a remote server cannot use transport stdio",
            lambda spec: spec.remote is None or spec.transport != "stdio",
            "!has(self.remote) || !has(self.transport) || self.transport != 'stdio'",
            at="transport",
        ),
        Rule(
            "a remote server has no container: command, args, env, files, volumes, port, path and hostHeader "
            "have no meaning",
            lambda spec: spec.remote is None or not _describes_a_container(spec),
            "!has(self.remote) || !(has(self.port) || has(self.path) || has(self.hostHeader) || "
            + " || ".join(
                f"(has(self.{each}) && size(self.{each}) > 0)"
                for each in ("command", "args", "env", "files", "volumes")
            )
            + ")",
            at="remote",
        ),
        Rule(
            "pullSecretRef has no meaning without image",
            lambda spec: spec.pull_secret_ref is None or spec.image is not None,
            "!has(self.pullSecretRef) || has(self.image)",
            at="pullSecretRef",
        ),
        Rule(
            "two of volumes and files have the same path",
            _paths_are_distinct,
            "!has(self.volumes) || self.volumes.all(v, self.volumes.exists_one(w, w.path == v.path) && "
            "(!has(self.files) || self.files.all(f, f.path != v.path)))",
            at="volumes",
        ),
    )

    toolbox_ref: shapes.NamespacedName | None = None
    """The toolbox it runs on: a name, or `<namespace>/<name>` where that toolbox admits this namespace."""
    toolbox_selector: dict[LabelKey, LabelValue] | None = Field(default=None, max_length=32)
    """Labels of the toolboxes it may run on; it is placed by free capacity and stays there."""
    image: shapes.ImageName | None = None
    """Container image."""
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    """When the image is pulled."""
    pull_secret_ref: shapes.SecretName | None = None
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
    """The TCP port that it listens on; 8000 if not set."""
    path: shapes.EndpointPath | None = None
    """The path of its endpoint; `/mcp` if not set, for sse `/sse`."""
    host_header: shapes.HostHeader | None = None
    """The Host header that it insists on."""
    command: Annotated[tuple[Text, ...], Field(max_length=64)] = ()
    """Replaces the image's entrypoint."""
    args: Annotated[tuple[Text, ...], Field(max_length=256)] = ()
    """Arguments; `{{port}}` becomes the port."""
    env: Annotated[tuple[EnvVar, ...], MaxLen(256), KeyedBy("name")] = ()
    """Environment variables."""
    files: Annotated[tuple[FileMount, ...], MaxLen(32), KeyedBy("path")] = ()
    """Small files, kept in memory."""
    volumes: Annotated[tuple[Volume, ...], MaxLen(16), KeyedBy("name")] = ()
    """Named volumes."""
    resources: Resources = Resources()
    """Hard limits."""
    security: Security = Security()
    """What the container may do on its host."""
    network: Network = Network()
    """Whom the container may talk to."""
    running: bool = True
    """False stops the server and keeps its container."""
    restart_policy: Literal["Always", "OnFailure", "Never"] = "Always"
    """What the host does when the process ends."""
    health: Health = Health()
    """When a running server counts as failed."""
    rollout: Rollout = Rollout()
    """How a new version takes over."""
    exclusive: bool = False
    """Whether two must never run at a time, not even during a rollout."""
    sessions: Literal["perAgent", "shared"] = "perAgent"
    """For stdio: one container per session, or one for all."""
    access: Access = Access()
    """Which agents and tools may be connected at most."""
    tools: ToolPinning = ToolPinning()
    """What happens when the tool definitions change."""
    deletion_policy: Literal["Delete", "Orphan"] = "Delete"
    """What happens to the container when this object is deleted."""
    reclaim: Literal["Retain", "Delete"] = "Retain"
    """What happens to its volumes then."""
    paused: bool = False
    """Whether it is observed and reported, but never acted upon."""


Phase = Literal["active", "stopped", "starting", "error", "unknown"]


class RolloutRecord(Lenient):
    """One finished or failed rollout; its spec is kept, because rollback needs it."""

    revision: int = 0
    """Number of the rollout, counted from 1 and given once: `toolkeeper rollback --to` takes it."""
    hash: Observed
    """Hash of the rendered spec."""
    outcome: Literal["Succeeded", "RolledBack", "Failed"]
    """How it ended."""
    reason: Observed = ""
    """Why, in one word."""
    message: Observed = ""
    """Why, in a sentence."""
    generation: int = 0
    """Generation of the spec."""
    image: Observed = ""
    """Image that was rolled out."""
    restart: Observed = ""
    """The restart that was last requested by then: the annotation toolkeeper.dev/restartedAt."""
    finished_at: datetime | None = None
    """When it ended."""
    spec: dict[str, Any] = Field(default_factory=dict)
    """The spec as it was declared, for a rollback to it; empty where it was too large to be kept."""


class ServerMemory(Lenient):
    """What the planner must remember across a crash; written before the act that it explains."""

    failed_hash: Observed = ""
    """The hash whose rollout failed; not tried again until the wanted hash changes."""
    failed_reason: Observed = ""
    """Why it failed, in one word."""
    failed_message: Observed = ""
    """Why it failed, in a sentence."""
    retries: int = 0
    """Number of repeated creates of the wanted hash while an older one stands by."""
    health_restarts: int = 0
    """Number of restarts for failed health of the wanted hash, spent from a budget."""
    restarted_run: Observed = ""
    """The run whose restart was last counted, so that one restart is never counted twice."""
    served_container: Observed = ""
    """Id of a container that was restarted by the host and has served since."""
    served_restarts: int = 0
    """Its restarts when it last served: only those after it are a crash loop."""
    drift: Observed = ""
    """The drift that is being repaired; the same again on a fresh container cannot be repaired."""
    drift_container: Observed = ""
    """Id of the container that showed it."""


class MCPServerStatus(Lenient):
    """What was observed of an MCP server; changes only at transitions."""

    observed_generation: int = -1
    """Generation of the spec that this status speaks of; -1 before the first look."""
    phase: Phase = "unknown"
    """The conditions in one word."""
    conditions: Conditions = ()
    """What was observed, aspect by aspect."""
    toolbox: Observed = ""
    """The toolbox it runs on, as `<namespace>/<name>`."""
    endpoint: Observed = ""
    """Address of the serving container, as its host reaches it."""
    image: Observed = ""
    """Image of the serving container."""
    image_digest: Observed = ""
    """Digest of that image."""
    container: Observed = ""
    """Name of the serving container."""
    container_id: Observed = ""
    """Id of the serving container."""
    running_hash: Observed = ""
    """Hash of the rendered spec that is serving."""
    wanted_hash: Observed = ""
    """Hash of the rendered spec that is wanted."""
    memory: ServerMemory = ServerMemory()
    """What the planner must remember."""
    server_name: Observed = ""
    """Name that the server gives itself."""
    server_version: Observed = ""
    """Version that the server gives itself."""
    era: Observed = ""
    """Era of the protocol: modern or legacy."""
    protocol_version: Observed = ""
    """Version of the protocol."""
    capabilities: Observations = ()
    """Capabilities that the server announces."""
    tools: Observations = ()
    """Names of its tools."""
    tools_hash: Observed = ""
    """Hash of the tools' definitions."""
    agents: int = 0
    """Number of agents connected to it."""
    restarts: int = 0
    """Number of restarts by the host, as of the last transition."""
    exit_code: int | None = None
    """Exit code of the last process that ended."""
    last_log: Observations = ()
    """Last lines of output of a process that failed."""
    history: Annotated[tuple[RolloutRecord, ...], Field(json_schema_extra={"maxItems": 16})] = ()
    """The last five rollouts, newest last."""


class MCPServer(Model):
    """One MCP server that is kept running on a toolbox."""

    api_version: Literal["toolkeeper.dev/v1alpha1"] = API_VERSION
    kind: Literal["MCPServer"] = "MCPServer"
    metadata: Metadata
    spec: MCPServerSpec
    """What is wanted."""
    status: MCPServerStatus = MCPServerStatus()
    """What was observed."""

    @property
    def key(self) -> Key:
        return Key("MCPServer", self.metadata.namespace, self.metadata.name)

    @property
    def toolbox_key(self) -> Key | None:
        """The toolbox that `spec.toolboxRef` names; None when a selector chooses."""
        if self.spec.toolbox_ref is None:
            return None
        namespace, _, name = self.spec.toolbox_ref.rpartition("/")
        return Key("Toolbox", namespace or self.metadata.namespace, name)
