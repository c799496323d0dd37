"""The settings of a node: `TOOLKEEPER_NODE_*` variables and the flags of `toolkeeper node`, read once."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from toolkeeper.errors import Invalid

PREFIX = "TOOLKEEPER_NODE_"

AbsolutePath = Annotated[Path, AfterValidator(Path.absolute)]
"""A relative path is meant from where the node is started; servers, Docker and people look from elsewhere."""


class NodeSettings(BaseModel):
    """Frozen; every field is also the variable `TOOLKEEPER_NODE_<FIELD>`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    state_dir: AbsolutePath = Path("/var/lib/toolkeeper/node")
    """Where the token, the certificate, the epochs and (process runtime) the servers are kept; mode 0700."""
    run_dir: AbsolutePath = Path("/run/toolkeeper")
    """Where files of servers live in memory; only the docker runtime uses it."""
    cache_dir: AbsolutePath | None = None
    """Where installed packages of the process runtime are kept; below the state directory if not set."""
    host: str = "127.0.0.1"
    """The address that the API listens on."""
    port: Annotated[int, Field(ge=0, le=65535)] = 30000
    """Its port; 0 takes any."""
    runtime: Literal["auto", "docker", "process"] = "auto"
    """docker, process, or docker where its daemon answers and its containers can be reached, else process."""
    tls: Literal["auto", "on", "off"] = "auto"
    """auto: on, except on loopback without a certificate of your own."""
    tls_certificate: AbsolutePath | None = None
    """A certificate (PEM) to show instead of the generated one."""
    tls_key: AbsolutePath | None = None
    """Its key (PEM)."""
    tls_names: tuple[str, ...] = ()
    """Host names and addresses for the generated certificate, besides this machine's own."""
    token_file: AbsolutePath | None = None
    """Valid bearer tokens, one per line; made with a fresh one at the first start if it is absent."""
    name: str = ""
    """The name of this toolbox; the machine's host name if not set."""
    docker_socket: AbsolutePath = Path("/var/run/docker.sock")
    """Where Docker listens."""
    docker_addresses: str = "10.201.0.0/16"
    """Where addresses of containers are taken from."""
    base_python: str = ""
    """The image on which packages of PyPI are built, in place of the defaults."""
    base_node: str = ""
    """The image on which packages of npm are built, in place of the defaults."""
    log_format: Literal["json", "console"] = "json"
    """How the log is written."""

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect."""
        return is_loopback(self.host)

    @property
    def encrypted(self) -> bool:
        """Whether the API speaks TLS."""
        given = self.tls_certificate is not None or self.tls_key is not None
        return self.tls == "on" or (self.tls == "auto" and (given or not self.loopback))

    @property
    def tokens(self) -> Path:
        """Where the tokens are."""
        return self.token_file or self.state_dir / "token"


def is_loopback(host: str) -> bool:
    """Whether that name or address is this machine's own, and nobody else's."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def settings_from(environ: Mapping[str, str], **flags: object) -> NodeSettings:
    """Flags that are not None, then variables, then defaults. Raises Invalid and names what is wrong."""
    known = NodeSettings.model_fields
    unknown = sorted(
        key for key in environ if key.startswith(PREFIX) and key.removeprefix(PREFIX).lower() not in known
    )
    if unknown:
        raise Invalid(f"there is no setting {', '.join(unknown)}")
    values: dict[str, object] = {}
    for field in known:
        text = environ.get(f"{PREFIX}{field.upper()}")
        if text is not None:
            values[field] = [word for word in text.split(",") if word] if field == "tls_names" else text
    values |= {field: value for field, value in flags.items() if value is not None}
    try:
        return NodeSettings.model_validate(values)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        raise Invalid(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from exc
