"""What all resources share: identity, metadata, and the base of every model."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

GROUP: Final = "toolkeeper.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = "toolkeeper.dev/v1alpha1"
FINALIZER: Final = f"{GROUP}/cleanup"

RESTARTED_AT: Final = f"{GROUP}/restartedAt"
"""Annotation: any change of its (opaque) value restarts the server, like `kubectl rollout restart`."""
FORCE_DELETE: Final = f"{GROUP}/force-delete"
"""Annotation `"true"`: give up cleaning on an unreachable toolbox and let the object go."""
AGENT_TOKEN: Final = f"{GROUP}/agent-token"
"""Label of the Secrets that Toolkeeper made for agents: the name of the AgentConnection."""
CREDENTIAL: Final = f"{GROUP}/credential"
"""Label `"true"`: resources may use this Secret. Without it, whoever may write an MCPServer could read every Secret."""
FOR_TOOLBOXES: Final = "toolbox"
"""Value of that label: only Toolboxes may. What opens a host opens every server on it, so no server may have it."""

DNS_LABEL: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
NO_NUL: Final = r"^[^\x00]*$"
NO_SPACE: Final = r"^[^\x00-\x20\x7f]+$"
LABEL_VALUE: Final = r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"
LABEL_KEY: Final = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"

Name = Annotated[str, StringConstraints(pattern=DNS_LABEL, min_length=1, max_length=63)]
"""A DNS label (RFC 1123): what Kubernetes allows as the name of an object and what a container name can hold."""
Text = Annotated[str, StringConstraints(pattern=NO_NUL, max_length=4096)]
ShortText = Annotated[str, StringConstraints(max_length=253)]
Glob = Annotated[str, StringConstraints(pattern=NO_SPACE, min_length=1, max_length=253)]
LabelKey = Annotated[str, StringConstraints(pattern=LABEL_KEY, max_length=317)]
LabelValue = Annotated[str, StringConstraints(pattern=LABEL_VALUE, max_length=63)]
Observed = Annotated[str, Field(json_schema_extra={"maxLength": 4096})]
"""What Toolkeeper wrote into a status. Never refused when it is read back: a lost status is a lost memory."""


class Model(BaseModel):
    """Base of all models: immutable, camelCase outside, unknown fields refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
        # What people write is read strictly, by `parse`; this is for what programs hand over.
        strict=False,
        str_strip_whitespace=False,
    )

    def as_declared(self, *, nulls: bool = True) -> dict[str, Any]:
        """What its author wrote, as JSON values: what was left out stays out, so that it can follow later defaults.

        `nulls=False` leaves out, too, what was written to be nothing.
        """
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=not nulls)


class Lenient(Model):
    """Base of what Toolkeeper wrote itself (status): unknown fields of newer versions are ignored."""

    model_config = ConfigDict(extra="ignore")


class Key(NamedTuple):
    """The identity of a resource within one installation."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


class Metadata(Lenient):
    """The part of Kubernetes' ObjectMeta that Toolkeeper reads; other fields are ignored."""

    name: Name
    """Name of the object, unique for its kind and namespace."""
    namespace: Name = "default"
    """Namespace of the object."""
    uid: str = Field(default="", max_length=64)
    """Identity across deletion and re-creation, given by the store."""
    generation: int = Field(default=1, ge=0)
    """Number of the spec, counted by the store."""
    resource_version: str = Field(default="", max_length=128)
    """Version of the whole object, given by the store."""
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict, max_length=1024)
    """Labels, which selectors match."""
    annotations: dict[str, str] = Field(default_factory=dict, max_length=1024)
    """Annotations."""
    finalizers: tuple[str, ...] = ()
    """Who must agree before a deleted object goes."""
    creation_timestamp: datetime | None = None
    """When the object was created."""
    deletion_timestamp: datetime | None = None
    """When its deletion was asked for."""

    @property
    def held(self) -> bool:
        """Whether it carries our finalizer."""
        return FINALIZER in self.finalizers

    @property
    def given_up(self) -> bool:
        """Whether somebody asked to let it go without cleaning up."""
        return self.annotations.get(FORCE_DELETE) == "true"
