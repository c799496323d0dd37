"""AgentConnection: one agent's grant to tools of a server."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from toolkeeper.resources.conditions import Condition
from toolkeeper.resources.mcpserver import EnvName, SecretKeyRef
from toolkeeper.resources.meta import API_VERSION, Glob, Key, Lenient, Metadata, Model, Name, ShortText


class ToolRules(Model):
    """Which tools are granted: those that match `allow` and do not match `deny`."""

    allow: Annotated[tuple[Glob, ...], Field(max_length=1024)] = ()
    """Globs over tool names; empty means none."""
    deny: Annotated[tuple[Glob, ...], Field(max_length=1024)] = ()
    """Globs over tool names that are never granted."""


class Grants(Model):
    """What else of the protocol is granted."""

    resources: bool = False
    """Reading resources."""
    prompts: bool = False
    """Using prompts."""
    completion: bool = False
    """Argument completion."""


class Credential(Model):
    """A credential of this agent for the server behind the gateway."""

    header: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]+$", max_length=128)] | None = None
    """HTTP header that carries it."""
    env: EnvName | None = None
    """Environment variable that carries it (stdio)."""
    secret_ref: SecretKeyRef
    """Where it is kept."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.header is None) == (self.env is None):
            raise ValueError("exactly one of header, env must be set")
        return self


class RateLimit(Model):
    """How often the agent may call."""

    calls_per_minute: Annotated[int, Field(ge=1, le=100000)]
    """Calls per minute."""
    burst: Annotated[int, Field(ge=1, le=100000)] = 10
    """Calls at once."""


class AgentConnectionSpec(Model):
    """What is granted."""

    agent: Name
    """Name of the agent; its identity is `<namespace>/<name>` of this object's namespace."""
    server_ref: Name | None = None
    """The MCPServer."""
    server_selector: dict[str, str] | None = Field(default=None, max_length=32)
    """Labels of several MCPServers."""
    tools: ToolRules = ToolRules()
    """Granted tools."""
    grants: Grants = Grants()
    """Other grants."""
    credentials: Annotated[tuple[Credential, ...], Field(max_length=16)] = ()
    """Credentials injected for this agent."""
    token_secret_ref: ShortText | None = None
    """The Secret that holds the agent's token."""
    expires_at: datetime | None = None
    """When the grant ends."""
    active: bool = True
    """False suspends the grant."""
    rate_limit: RateLimit | None = None
    """Limit of calls."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.server_ref is None) == (self.server_selector is None):
            raise ValueError("exactly one of serverRef, serverSelector must be set")
        return self


class AgentConnectionStatus(Lenient):
    """What was observed of a connection."""

    observed_generation: int = -1
    conditions: tuple[Condition, ...] = ()
    endpoint: str = ""
    tools: tuple[str, ...] = ()


class AgentConnection(Model):
    """One agent's grant to tools of a server."""

    api_version: Literal["toolkeeper.dev/v1alpha1"] = API_VERSION
    kind: Literal["AgentConnection"] = "AgentConnection"
    metadata: Metadata
    spec: AgentConnectionSpec
    status: AgentConnectionStatus = AgentConnectionStatus()

    @property
    def key(self) -> Key:
        return Key("AgentConnection", self.metadata.namespace, self.metadata.name)
