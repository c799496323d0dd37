"""v1 Secret documents, so that a directory can hold what its manifests refer to. The values are never printed."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from toolkeeper.resources.meta import LabelKey, LabelValue, Lenient, Model, Name, ShortText
from toolkeeper.resources.shapes import SecretKey, SecretName


def _is_base64_text(value: str) -> str:
    try:
        base64.b64decode("".join(value.split()), validate=True).decode()
    except binascii.Error:
        raise PydanticCustomError("base64", "must be base64; plain text goes to stringData") from None
    except UnicodeDecodeError:
        raise PydanticCustomError("base64", "must be text once it is decoded from base64") from None
    return value


class SecretMetadata(Lenient):
    """The identity of a secret."""

    name: SecretName
    namespace: Name = "default"
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict, max_length=256)
    annotations: dict[str, str] = Field(default_factory=dict, max_length=256)


class SecretDocument(Model):
    """A Kubernetes Secret as far as it matters here."""

    model_config = ConfigDict(hide_input_in_errors=True)

    api_version: Literal["v1"] = "v1"
    kind: Literal["Secret"] = "Secret"
    metadata: SecretMetadata
    type: ShortText = "Opaque"
    immutable: bool = False
    data: dict[SecretKey, Annotated[str, AfterValidator(_is_base64_text)]] = Field(
        default_factory=dict, max_length=256, repr=False
    )
    string_data: dict[SecretKey, str] = Field(default_factory=dict, max_length=256, repr=False)

    @property
    def values(self) -> dict[str, str]:
        """The decoded values; `stringData` comes before `data`, as in Kubernetes."""
        decoded = {key: base64.b64decode("".join(value.split())).decode() for key, value in self.data.items()}
        return decoded | self.string_data
