"""What all resources share: identity, metadata, and the base of every model."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

GROUP = "toolkeeper.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
FINALIZER = f"{GROUP}/cleanup"

RESTARTED_AT = f"{GROUP}/restartedAt"
"""Annotation: any change of its (opaque) value restarts the server, like `kubectl rollout restart`."""
FORCE_DELETE = f"{GROUP}/force-delete"
"""Annotation `"true"`: give up cleaning on an unreachable toolbox and let the object go."""

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"

Name = Annotated[str, StringConstraints(pattern=DNS_LABEL, min_length=1, max_length=63)]
"""A DNS label (RFC 1123): what Kubernetes allows as the name of an object and what a container name can hold."""
Text = Annotated[str, StringConstraints(max_length=4096)]
ShortText = Annotated[str, StringConstraints(max_length=253)]
Glob = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[^\s]+$")]


class Model(BaseModel):
    """Base of all models: immutable, camelCase outside, unknown fields refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
        # Manifests are text that people write: "yes" must not become true, nor 1 become "1".
        strict=False,
        str_strip_whitespace=False,
    )


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
    namespace: Name = "default"
    uid: str = Field(default="", max_length=64)
    generation: int = Field(default=1, ge=0)
    resource_version: str = Field(default="", max_length=128)
    labels: dict[str, str] = Field(default_factory=dict, max_length=256)
    annotations: dict[str, str] = Field(default_factory=dict, max_length=256)
    finalizers: tuple[str, ...] = ()
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
