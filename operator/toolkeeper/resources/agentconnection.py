"""AgentConnection: one agent's grant to tools of a server."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from toolkeeper.resources import shapes
from toolkeeper.resources.conditions import Conditions
from toolkeeper.resources.mcpserver import Observations, SecretKeyRef
from toolkeeper.resources.meta import (
    API_VERSION,
    Glob,
    Key,
    LabelKey,
    LabelValue,
    Lenient,
    Metadata,
    Model,
    Name,
    Observed,
)
from toolkeeper.resources.rules import Rule, Ruled, exactly_one


class ToolRules(Model):
    """Which tools are granted: those that match `allow` and do not match `deny`."""

    allow: Annotated[tuple[Glob, ...], Field(max_length=1024)] = ()
    """Globs over tool names; empty means none."""
    deny: Annotated[tuple[Glob, ...], Field(max_length=1024)] = ()
    """Globs over tool names that are never granted."""


class Grants(Model):
    """What else of the protocol is granted."""

    resources: bool = False
    """Whether resources may be read."""
    prompts: bool = False
    """Whether prompts may be used."""
    completion: bool = False
    """Whether arguments may be completed."""


class Credential(Ruled):
    """A credential of this agent for the server behind the gateway."""

    RULES: ClassVar = (exactly_one("header", "env"),)

    header: shapes.HeaderName | None = None
    """HTTP header that carries it."""
    env: shapes.EnvName | None = None
    """Environment variable that carries it, for stdio."""
    secret_ref: SecretKeyRef
    """Where it is kept."""


class RateLimit(Model):
    """How often the agent may call."""

    calls_per_minute: Annotated[int, Field(ge=1, le=100000)]
    """Number of calls per minute."""
    burst: Annotated[int, Field(ge=1, le=100000)] = 10
    """Number of calls at once."""


def _carriers_are_distinct(spec: AgentConnectionSpec) -> bool:
    carriers = [(each.env, each.header.lower() if each.header else None) for each in spec.credentials]
    return len(carriers) == len(set(carriers))


class AgentConnectionSpec(Ruled):
    """What is granted."""

    RULES: ClassVar = (
        exactly_one("serverRef", "serverSelector"),
        Rule(
            "two credentials have the same header or env",
            _carriers_are_distinct,
            "!has(self.credentials) || self.credentials.all(c, self.credentials.exists_one(d, "
            "has(c.header) ? (has(d.header) && c.header.lowerAscii() == d.header.lowerAscii()) : "
            "(has(d.env) && has(c.env) && c.env == d.env)))",
            at="credentials",
        ),
    )

    agent: Name
    """Name of the agent; its identity is `<namespace>/<name>` with this object's namespace."""
    server_ref: Name | None = None
    """The MCPServer."""
    server_selector: dict[LabelKey, LabelValue] | None = Field(default=None, min_length=1, max_length=32)
    """Labels of several MCPServers."""
    tools: ToolRules = ToolRules()
    """Which tools are granted."""
    grants: Grants = Grants()
    """What else of the protocol is granted."""
    credentials: Annotated[tuple[Credential, ...], Field(max_length=16)] = ()
    """Credentials that the gateway adds to this agent's calls."""
    token_secret_ref: shapes.SecretName | None = None
    """The Secret that holds the agent's token."""
    expires_at: shapes.Timestamp | None = None
    """When the grant ends."""
    active: bool = True
    """False suspends the grant."""
    rate_limit: RateLimit | None = None
    """How often the agent may call."""


class AgentConnectionStatus(Lenient):
    """What was observed of a connection."""

    observed_generation: int = -1
    """Generation of the spec that this status speaks of; -1 before the first look."""
    conditions: Conditions = ()
    """What was observed, aspect by aspect."""
    endpoint: Observed = ""
    """URL that an MCP client can use as it is."""
    tools: Observations = ()
    """Names of the tools that are granted now."""


class AgentConnection(Model):
    """One agent's grant to tools of a server."""

    api_version: Literal["toolkeeper.dev/v1alpha1"] = API_VERSION
    kind: Literal["AgentConnection"] = "AgentConnection"
    metadata: Metadata
    spec: AgentConnectionSpec
    """What is wanted."""
    status: AgentConnectionStatus = AgentConnectionStatus()
    """What was observed."""

    @property
    def key(self) -> Key:
        return Key("AgentConnection", self.metadata.namespace, self.metadata.name)

    @property
    def token_secret(self) -> str:
        """Name of the secret that holds the agent's token."""
        return self.spec.token_secret_ref or f"{self.metadata.name}-token"
