"""What crosses the wire between operator and node agent, defined once. Both sides import it.

JSON, snake_case. The node refuses what it does not know (a newer operator announces itself by `features`, it does not
guess); the operator ignores what it does not know (a newer node may say more). Everything is bounded: each side is
untrusted input to the other.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, model_validator

from toolkeeper.planning.instance import Instance
from toolkeeper.planning.observed import Snapshot
from toolkeeper.reconcile.ports import InstanceRequest, ProbeCredential
from toolkeeper.resources.meta import Name, ShortText

REQUEST_LIMIT = 1024 * 1024
"""Bytes of a request body that the node reads at most."""
RESPONSE_LIMIT = 16 * 1024 * 1024
"""Bytes of a response body that the operator reads at most (log streams excepted: their lines are bounded)."""
LOG_LINE_LIMIT = 16 * 1024
"""Characters of one log line; the rest of a longer one is cut off."""
LONGEST_WAIT = 60.0
"""Seconds of one long poll at most."""

INSTALLATION_HEADER = "Toolkeeper-Installation"
EPOCH_HEADER = "Toolkeeper-Epoch"

Word = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
CONTAINER_PATTERN = rf"^tk_{Word}_{Word}_{Word}_[0-9a-f]{{8}}$"
VOLUME_PATTERN = r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}$"

ContainerName = Annotated[str, StringConstraints(pattern=CONTAINER_PATTERN, max_length=210)]
VolumeName = Annotated[str, StringConstraints(pattern=VOLUME_PATTERN, max_length=255)]
Epoch = Annotated[int, Field(ge=0, le=2**53)]
SpecHash = Annotated[str, StringConstraints(pattern=r"^v[0-9]{1,6}:sha256:[0-9a-f]{64}$")]
Secret = Annotated[str, StringConstraints(max_length=65536)]


def belongs(container: str, installation: str) -> bool:
    """Whether that name is one of that installation (`_` cannot occur in the parts, so this is exact)."""
    return container.startswith(f"tk_{installation}_")


class Received(BaseModel):
    """A body that the node reads: unknown fields are refused, at every depth."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Sent(BaseModel):
    """A body that the operator reads: unknown fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class ClaimBody(Received):
    """Become the only writer for an installation."""

    installation: Name
    expected_epoch: Epoch
    """The epoch that the claimant last saw; 0 when there was none."""


class ClaimGranted(Sent):
    """The claim was granted."""

    epoch: Epoch


class CreateBody(Received):
    """Everything needed to make one container exist: `ports.InstanceRequest` on the wire."""

    namespace: Name
    server: Name
    hash: SpecHash
    uid: ShortText = ""
    instance: Instance
    secrets: Annotated[
        dict[Annotated[str, StringConstraints(max_length=520)], Secret], Field(max_length=512)
    ] = Field(default_factory=dict, repr=False)
    """`<secret name>/<key>` → value."""
    registry_username: ShortText = ""
    registry_password: Annotated[str, StringConstraints(max_length=8192)] = Field(default="", repr=False)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        instance = self.instance
        if (instance.package is None) == (not instance.image):
            raise ValueError("exactly one of instance.image, instance.package must be set")
        if (instance.transport == "stdio") == (instance.port != 0):
            raise ValueError("instance.port must be set for HTTP transports, and only for them")
        if not 0 <= instance.port <= 65535:
            raise ValueError("instance.port must be a port number")
        uses = [entry.secret for entry in instance.env] + [entry.secret for entry in instance.files]
        missing = sorted({f"{use.name}/{use.key}" for use in uses if use is not None} - self.secrets.keys())
        if missing:
            raise ValueError(f"secrets lacks {', '.join(missing)}")
        return self

    def request(self) -> InstanceRequest:
        """The same, as the inner layers know it."""
        return InstanceRequest(
            namespace=self.namespace,
            server=self.server,
            hash=self.hash,
            uid=self.uid,
            instance=self.instance,
            secrets=self.secrets,
            registry_username=self.registry_username,
            registry_password=self.registry_password,
        )


class CredentialBody(Received):
    """What probes of a server show it: `ports.ProbeCredential` on the wire."""

    version: Annotated[str, StringConstraints(pattern=r"^[0-9a-zA-Z._:-]{1,128}$")]
    value: Secret = Field(repr=False)

    def credential(self) -> ProbeCredential:
        """The same, as the inner layers know it."""
        return ProbeCredential(self.version, self.value)


class ErrorDetail(Sent):
    """What went wrong: a word for programs, a sentence for people."""

    reason: str = Field(max_length=128)
    message: str = Field(max_length=4096)


class ErrorBody(Sent):
    """The body of every answer that is not a success."""

    error: ErrorDetail


class Accepted(Sent):
    """The work was taken on; its progress shows in `state`."""

    accepted: bool = True


class NodeInfo(Sent):
    """What the node is and can do."""

    agent: str = "toolkeeper"
    version: str
    api: tuple[str, ...] = ("v1",)
    runtime: str
    runtime_ok: bool
    runtime_message: str = ""
    features: tuple[str, ...]
    capacity_memory: int
    capacity_nano_cpus: int


class Usage(Sent):
    """What one container uses now."""

    name: str
    cpu: float
    """Cores, averaged since the last look."""
    memory: int
    memory_limit: int
    pids: int


class UsageList(Sent):
    """What all running containers of an installation use now."""

    usage: tuple[Usage, ...]


class ToolDefinitions(Sent):
    """The tool definitions of one server as it listed them, untouched."""

    tools_hash: str
    tools: tuple[dict[str, object], ...]


SNAPSHOT: TypeAdapter[Snapshot] = TypeAdapter(Snapshot)
INSTANCE: TypeAdapter[Instance] = TypeAdapter(Instance)
CREATE: TypeAdapter[InstanceRequest] = TypeAdapter(InstanceRequest)
"""For encoding only; what comes in goes through `CreateBody`, which knows the bounds."""
CREDENTIAL: TypeAdapter[ProbeCredential] = TypeAdapter(ProbeCredential)
"""For encoding only, likewise."""
