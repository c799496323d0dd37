"""The shapes of text that fields may have, each with the sentence that explains it to whoever got it wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, StringConstraints
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from toolkeeper.resources.meta import DNS_LABEL, LABEL_KEY, LABEL_VALUE, NO_NUL, NO_SPACE

if TYPE_CHECKING:
    from pydantic.json_schema import JsonSchemaValue

_HOST = r"[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?)*"
_PORT = r"([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_PART = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"

NAMESPACED_NAME: Final = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?/)?[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
SECRET_NAME: Final = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"  # noqa: S105 – a shape
SECRET_KEY: Final = r"^\.?[A-Za-z0-9_-][A-Za-z0-9._-]*$"  # noqa: S105 – a shape
ENV_NAME: Final = r"^[A-Za-z_][A-Za-z0-9_.-]*$"
MEMORY: Final = r"^[0-9]+(\.[0-9]{1,3})?(k|M|G|Ki|Mi|Gi)?$"
CPU: Final = r"^([0-9]+m|[0-9]+(\.[0-9]{1,3})?)$"
HOST_PORT: Final = rf"^(\*\.)?{_HOST}:{_PORT}$"
HOST_HEADER: Final = r"^[A-Za-z0-9._:\[\]-]+$"
HEADER_NAME: Final = r"^[A-Za-z0-9-]+$"
ENDPOINT_PATH: Final = r"^/[^\x00-\x20\x7f]*$"
# No empty part, no `.` or `..`, no slash at the end: one directory has one spelling, so it cannot be mounted twice.
MOUNT_PATH: Final = r"^(/(\.?[^/.:,\x00-\x20\x7f][^/:,\x00-\x20\x7f]*|\.\.[^/:,\x00-\x20\x7f]+))+$"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
IMAGE: Final = rf"^({_HOST}(:[0-9]{{1,5}})?/)?{_PART}(/{_PART})*(:{_TAG})?(@sha256:[0-9a-f]{{64}})?$"
PACKAGE_NAME: Final = r"^(@[a-z0-9~-][a-z0-9._~-]*/)?[A-Za-z0-9][A-Za-z0-9._~-]*$"
PACKAGE_VERSION: Final = r"^[0-9][A-Za-z0-9.+!_-]*$"
# With a version: an image whose tag stands for its content must not change with the day it was built.
COMPANION: Final = (
    r"^(@[a-z0-9~-][a-z0-9._~-]*/)?[A-Za-z0-9][A-Za-z0-9._~-]*(\[[A-Za-z0-9,._-]+\])?(@[~^]?|[=<>!~]=?=?)"
    r"[0-9][A-Za-z0-9.*+!<>=~^,_-]*$"
)
NPM_VERSION: Final = r"^[0-9]+[.][0-9]+[.][0-9]+([+-][0-9A-Za-z.+-]+)?$"
DEBIAN_PACKAGE: Final = r"^[a-z0-9][a-z0-9+.-]+$"
CATALOG_NAME: Final = r"^[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+$"
HTTP_URL: Final = r"^https?://[^/?#@\x00-\x20\x7f]+([/?#][^\x00-\x20\x7f]*)?$"
NODE_URL: Final = r"^(https?://[^/?#@\x00-\x20\x7f]+(/[^?#\x00-\x20\x7f]*)?|unix:///[^\x00-\x20\x7f]+)$"
SHA256: Final = r"^sha256:[0-9a-f]{64}$"
TIMESTAMP: Final = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})$"
)

SENTENCES: Final[Mapping[str, str]] = {
    DNS_LABEL: "must be lower-case letters, digits and '-', beginning and ending with a letter or digit",
    NO_NUL: "must not contain the NUL character",
    NO_SPACE: "must not contain white space",
    LABEL_KEY: "must be a label name such as app or example.com/app",
    LABEL_VALUE: "must be letters, digits, '-', '_' and '.', beginning and ending with a letter or digit",
    NAMESPACED_NAME: "must be a name, or <namespace>/<name>, of lower-case letters, digits and '-'",
    SECRET_NAME: "must be the name of a Secret: lower-case letters, digits, '-' and '.'",
    SECRET_KEY: "must be a key of a Secret: letters, digits, '-', '_' and '.'",
    ENV_NAME: "must be the name of a variable: letters, digits, '_', '.' and '-', not beginning with a digit",
    MEMORY: "must be an amount of memory such as 512Mi or 1.5Gi",
    CPU: 'must be a number of CPUs such as "2", "0.5" or 500m',
    HOST_PORT: "must be host:port, such as api.example.com:443 or *.example.com:443",
    HOST_HEADER: "must be a host, or host:port",
    HEADER_NAME: "must be the name of an HTTP header: letters, digits and '-'",
    ENDPOINT_PATH: "must begin with '/' and contain no white space",
    MOUNT_PATH: "must be an absolute path below '/', without '.', '..', ':', ',', white space or a slash at the end",
    IMAGE: "must be an image such as ghcr.io/example/server:1.2 or server@sha256:<64 hex digits>",
    PACKAGE_NAME: "must be the name of a PyPI or npm package, without a version",
    PACKAGE_VERSION: "must be one exact version such as 1.2.3; ranges and tags such as latest are refused",
    COMPANION: "must be a package with its version or a bound, such as 'mcp<2' or zod@3.25.1",
    DEBIAN_PACKAGE: "must be the name of a Debian package, such as git",
    CATALOG_NAME: "must be the name of a catalog entry, such as io.github.example/server",
    HTTP_URL: "must be an http:// or https:// URL without user and password",
    NODE_URL: "must be an https://, http:// or unix:/// URL without user, password and query",
    SHA256: "must be sha256: and 64 hex digits",
    TIMESTAMP: "must be a time with its zone, such as 2030-01-31T12:00:00Z",
}
"""What to tell whoever wrote something else; `parse` looks the pattern up."""

NamespacedName = Annotated[str, StringConstraints(pattern=NAMESPACED_NAME, min_length=1, max_length=127)]
SecretName = Annotated[str, StringConstraints(pattern=SECRET_NAME, max_length=253)]
SecretKey = Annotated[str, StringConstraints(pattern=SECRET_KEY, max_length=253)]
EnvName = Annotated[str, StringConstraints(pattern=ENV_NAME, max_length=128)]
HostPort = Annotated[str, StringConstraints(pattern=HOST_PORT, max_length=260)]
HostHeader = Annotated[str, StringConstraints(pattern=HOST_HEADER, max_length=253)]
HeaderName = Annotated[str, StringConstraints(pattern=HEADER_NAME, max_length=128)]
EndpointPath = Annotated[str, StringConstraints(pattern=ENDPOINT_PATH, max_length=1024)]
MountPath = Annotated[str, StringConstraints(pattern=MOUNT_PATH, max_length=512)]
ImageName = Annotated[str, StringConstraints(pattern=IMAGE, max_length=512)]
PackageName = Annotated[str, StringConstraints(pattern=PACKAGE_NAME, max_length=214)]
PackageVersion = Annotated[str, StringConstraints(pattern=PACKAGE_VERSION, max_length=64)]
Companion = Annotated[str, StringConstraints(pattern=COMPANION, max_length=256)]
DebianPackage = Annotated[str, StringConstraints(pattern=DEBIAN_PACKAGE, max_length=64)]
CatalogName = Annotated[str, StringConstraints(pattern=CATALOG_NAME, max_length=200)]
HttpUrl = Annotated[str, StringConstraints(pattern=HTTP_URL, max_length=2048)]
NodeUrl = Annotated[str, StringConstraints(pattern=NODE_URL, max_length=2048)]
Sha256 = Annotated[str, StringConstraints(pattern=SHA256, max_length=71)]


class _Quantity:
    """Text, or a whole number that stands for its text, as in a Pod.

    A Pod takes a fraction without quotes, too. A CustomResourceDefinition cannot say *text or any number*: there is
    x-kubernetes-int-or-string and nothing wider, so nobody here takes one.
    """

    def __init__(self, pattern: str) -> None:
        self._text = core_schema.str_schema(pattern=pattern, max_length=20)
        self._limits = {"pattern": pattern, "maxLength": 20}

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._spelled, self._text)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": ["integer", "string"], **self._limits, "x-kubernetes-int-or-string": True}

    @staticmethod
    def _spelled(value: object) -> object:
        if isinstance(value, float):
            raise PydanticCustomError("fraction", "must be a whole number or text; put it in quotes")
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Memory = Annotated[str, _Quantity(MEMORY)]
"""Bytes as a Kubernetes quantity; read it with `quantity.memory_bytes`."""
Cpu = Annotated[str, _Quantity(CPU)]
"""CPUs as a Kubernetes quantity; read it with `quantity.nano_cpus`."""


def is_npm_version(version: str) -> bool:
    """Whether npm takes this for one version; `1.2` would be a range."""
    return re.fullmatch(NPM_VERSION, version) is not None


class _SpelledOut:
    """A moment as manifests write it: a date without a zone means another moment on every machine."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        text = core_schema.str_schema(pattern=TIMESTAMP, max_length=40)
        moment = core_schema.no_info_plain_validator_function(datetime.fromisoformat)
        return core_schema.json_or_python_schema(
            core_schema.chain_schema([text, moment]), core_schema.datetime_schema(tz_constraint="aware")
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "format": "date-time", "pattern": TIMESTAMP, "maxLength": 40}


Timestamp = Annotated[datetime, _SpelledOut()]

Capability = Literal[
    "ALL", "AUDIT_CONTROL", "AUDIT_READ", "AUDIT_WRITE", "BLOCK_SUSPEND", "BPF", "CHECKPOINT_RESTORE", "CHOWN",
    "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE",
    "LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE", "NET_BROADCAST",
    "NET_RAW", "PERFMON", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYSLOG", "SYS_ADMIN", "SYS_BOOT", "SYS_CHROOT",
    "SYS_MODULE", "SYS_NICE", "SYS_PACCT", "SYS_PTRACE", "SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG",
    "WAKE_ALARM",
]  # fmt: skip
"""Linux capabilities, without the CAP_ prefix (capabilities(7))."""
WALL_BREAKING: Final = (
    "ALL", "BPF", "CHECKPOINT_RESTORE", "DAC_READ_SEARCH", "MAC_ADMIN", "MAC_OVERRIDE", "NET_ADMIN", "PERFMON",
    "SYS_ADMIN", "SYS_BOOT", "SYS_MODULE", "SYS_PTRACE", "SYS_RAWIO", "SYS_TIME",
)  # fmt: skip
"""Capabilities with which a container can reach its host or undo its own walls."""
