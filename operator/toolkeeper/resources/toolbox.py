"""Toolbox: a host that runs MCP servers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from toolkeeper.resources.conditions import Condition
from toolkeeper.resources.mcpserver import Quantity, SecretKeyRef
from toolkeeper.resources.meta import API_VERSION, Glob, Key, Lenient, Metadata, Model, ShortText

Fingerprint = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s]+$", max_length=2048)]


class ToolboxTLS(Model):
    """How the node agent proves who it is."""

    ca_ref: SecretKeyRef | None = None
    """A certificate authority (PEM) in a Secret."""
    fingerprints: Annotated[tuple[Fingerprint, ...], Field(max_length=8)] = ()
    """SHA-256 fingerprints of accepted certificates; several allow rotation."""


class GatewaySpec(Model):
    """How agents reach the servers of this toolbox."""

    public_url: Url | None = Field(default=None, alias="publicURL")
    """The URL under which agents reach the gateway."""
    tls: SecretKeyRef | None = None
    """Certificate and key of the gateway."""
    allow_plaintext: bool = False
    """Plain HTTP beyond loopback, on purpose."""
    max_policy_age: Annotated[int, Field(ge=10, le=604800)] | None = None
    """Seconds after which a gateway without a fresh policy denies everything."""


class Capacity(Model):
    """What may be placed on the toolbox at most."""

    servers: Annotated[int, Field(ge=0, le=10000)] | None = None
    """Number of servers."""
    memory: Quantity | None = None
    """Sum of memory limits."""
    cpu: Quantity | None = None
    """Sum of CPU limits."""


class ToolboxSpec(Model):
    """What is wanted of a toolbox."""

    endpoint: Annotated[str, StringConstraints(pattern=r"^(https?|unix)://[^\s]+$", max_length=2048)]
    """URL of the node agent."""
    agent: Literal["auto", "toolkeeper", "dtma"] = "auto"
    """Which agent answers there."""
    token_ref: SecretKeyRef | None = None
    """The bearer token of the node agent."""
    tls: ToolboxTLS = ToolboxTLS()
    """Trust in the node agent."""
    gateway: GatewaySpec = GatewaySpec()
    """The gateway."""
    capacity: Capacity = Capacity()
    """Limits of placement."""
    agents: Annotated[tuple[Glob, ...], Field(max_length=256)] = ()
    """Globs over `<namespace>/<agent>` that may use this toolbox; empty means none."""
    allowed_namespaces: Annotated[tuple[Glob, ...], Field(max_length=256)] = ()
    """Other namespaces whose servers may run here."""
    drain: bool = False
    """Servers placed by a selector move away; nothing new is placed."""
    paused: bool = False
    """Observed and reported, never acted upon."""
    agent_recovery: Literal["Never", "Restart"] = "Never"
    """What to do with an existing DTMA that lost track of its containers."""


class ToolboxStatus(Lenient):
    """What was observed of a toolbox."""

    observed_generation: int = -1
    conditions: tuple[Condition, ...] = ()
    agent_version: str = ""
    dialect: str = ""
    features: tuple[str, ...] = ()
    runtime: str = ""
    capacity: dict[str, int] = Field(default_factory=dict)
    allocated: dict[str, int] = Field(default_factory=dict)
    servers: int = 0
    ready: int = 0
    foreign: int = 0
    orphans: tuple[ShortText, ...] = ()


class Toolbox(Model):
    """A host that runs MCP servers."""

    api_version: Literal["toolkeeper.dev/v1alpha1"] = API_VERSION
    kind: Literal["Toolbox"] = "Toolbox"
    metadata: Metadata
    spec: ToolboxSpec
    status: ToolboxStatus = ToolboxStatus()

    @property
    def key(self) -> Key:
        return Key("Toolbox", self.metadata.namespace, self.metadata.name)
