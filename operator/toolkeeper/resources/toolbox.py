"""Toolbox: a host that runs MCP servers."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from toolkeeper.resources import shapes
from toolkeeper.resources.conditions import Conditions
from toolkeeper.resources.mcpserver import Observations, SecretKeyRef, bounded_quantity
from toolkeeper.resources.meta import API_VERSION, Glob, Key, Lenient, Metadata, Model, Observed
from toolkeeper.resources.rules import Rule, Ruled

LOOPBACK = r"^https://|^http://(localhost|127[.][0-9.]+|\[::1\])([:/?#]|$)"


class ToolboxTLS(Model):
    """How the node agent proves who it is."""

    ca_ref: SecretKeyRef | None = None
    """A certificate authority (PEM) in a Secret; with fingerprints beside it, both must hold."""
    fingerprints: Annotated[tuple[shapes.Sha256, ...], Field(max_length=8)] = ()
    """SHA-256 fingerprints of accepted certificates; several allow rotation."""


class GatewaySpec(Ruled):
    """How agents reach the servers of this toolbox."""

    RULES: ClassVar = (
        Rule(
            "plain http:// beyond loopback shows every agent's token to the network: use https://, "
            "or set allowPlaintext",
            lambda gateway: (
                gateway.public_url is None
                or gateway.allow_plaintext
                or re.search(LOOPBACK, gateway.public_url) is not None
            ),
            "!has(self.publicURL) || (has(self.allowPlaintext) && self.allowPlaintext) || "
            f"self.publicURL.matches(r'{LOOPBACK}')",
            at="publicURL",
        ),
    )

    public_url: shapes.HttpUrl | None = Field(default=None, alias="publicURL")
    """The URL under which agents reach the gateway."""
    tls: SecretKeyRef | None = None
    """Certificate chain and key of the gateway (PEM, one after the other) in a Secret."""
    allow_plaintext: bool = False
    """Whether plain HTTP beyond loopback is meant."""
    max_policy_age: Annotated[int, Field(ge=10, le=604800)] | None = None
    """Seconds after which a gateway without a fresh policy denies everything."""


class Capacity(Ruled):
    """What may be placed on the toolbox at most."""

    RULES: ClassVar = (
        bounded_quantity("memory", "0", "1048576Gi", ""),
        bounded_quantity("cpu", "0", "1000000", ""),
    )

    servers: Annotated[int, Field(ge=0, le=10000)] | None = None
    """Number of servers."""
    memory: shapes.Memory | None = None
    """Sum of memory limits in bytes, as a quantity such as `16Gi`."""
    cpu: shapes.Cpu | None = None
    """Sum of CPU limits, as a quantity such as `8`; a fraction must be quoted."""


class ToolboxSpec(Model):
    """What is wanted of a toolbox."""

    endpoint: shapes.NodeUrl
    """URL of the node agent."""
    agent: Literal["auto", "toolkeeper", "dtma"] = "auto"
    """Which agent answers there."""
    token_ref: SecretKeyRef | None = None
    """The bearer token of the node agent."""
    tls: ToolboxTLS = ToolboxTLS()
    """How the node agent proves who it is."""
    gateway: GatewaySpec = GatewaySpec()
    """How agents reach the servers of this toolbox."""
    capacity: Capacity = Capacity()
    """What may be placed on the toolbox at most."""
    agents: Annotated[tuple[Glob, ...], Field(max_length=256)] = ()
    """Globs over `<namespace>/<agent>` that may use this toolbox; empty means none."""
    allowed_namespaces: Annotated[tuple[Glob, ...], Field(max_length=256)] = ()
    """Globs over other namespaces whose servers may run here; empty means none."""
    drain: bool = False
    """Whether servers placed by a selector move away and nothing new is placed."""
    paused: bool = False
    """Whether it is observed and reported, but never acted upon."""
    agent_recovery: Literal["Never", "Restart"] = "Never"
    """What to do with an existing DTMA that lost track of its containers."""


class ToolboxStatus(Lenient):
    """What was observed of a toolbox."""

    observed_generation: int = -1
    """Generation of the spec that this status speaks of; -1 before the first look."""
    conditions: Conditions = ()
    """What was observed, aspect by aspect."""
    agent_version: Observed = ""
    """Version of the node agent."""
    dialect: Observed = ""
    """Which agent answers: toolkeeper or dtma."""
    features: Observations = ()
    """What the node agent can do and enforce."""
    runtime: Observed = ""
    """What runs the servers: docker or process."""
    capacity: dict[str, int] = Field(default_factory=dict, json_schema_extra={"maxProperties": 16})
    """Capacity of the host: memory in bytes, CPUs in billionths, number of servers."""
    allocated: dict[str, int] = Field(default_factory=dict, json_schema_extra={"maxProperties": 16})
    """The part of the capacity that is taken."""
    servers: int = 0
    """Number of servers placed here."""
    ready: int = 0
    """Number of those that are ready."""
    foreign: int = 0
    """Number of containers that are not ours; they are never touched."""
    orphans: Observations = ()
    """Containers of ours that nothing declares any more."""
    disowned: Observations = ()
    """`<namespace>/<server>` of deleted servers whose containers stay (`deletionPolicy: Orphan`)."""


class Toolbox(Model):
    """A host that runs MCP servers."""

    api_version: Literal["toolkeeper.dev/v1alpha1"] = API_VERSION
    kind: Literal["Toolbox"] = "Toolbox"
    metadata: Metadata
    spec: ToolboxSpec
    """What is wanted."""
    status: ToolboxStatus = ToolboxStatus()
    """What was observed."""

    @property
    def key(self) -> Key:
        return Key("Toolbox", self.metadata.namespace, self.metadata.name)
