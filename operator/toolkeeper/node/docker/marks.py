"""The labels on a container: whose it is, and what a restarted node agent needs to know of it.

Labels cannot be changed, so nothing that changes is in here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, cast

from toolkeeper.reconcile.ports import InstanceRequest

PREFIX: Final = "toolkeeper.dev/"
INSTALLATION: Final = PREFIX + "installation"
ROLE: Final = PREFIX + "role"
"""What a container of ours is: `server`, or for a short while `build` or `chown`.

A container inherits the labels of its image, and an image that we built says `build`; so all of ours have it.
"""
SERVER: Final = "server"
NETWORK: Final = PREFIX + "network"
"""Which of our networks a network is: internal, egress, peers."""

Transport = Literal["stdio", "streamable-http", "sse"]


@dataclass(frozen=True, slots=True)
class Mark:
    """What the labels of a server's container say."""

    installation: str
    namespace: str
    server: str
    hash: str
    renderer: int
    uid: str
    transport: Transport
    port: int = 0
    path: str = ""
    host_header: str = ""
    probe_interval: int = 15
    image: str = ""
    """What was asked for: an image, or `pypi:name==version`."""
    peers: tuple[str, ...] = ()
    secret_env: tuple[str, ...] = ()
    """Names of variables whose values are secrets."""
    secret_files: tuple[int, ...] = ()
    """Positions of files whose content is secret."""
    files: int = 0
    """How many files it has in memory."""

    @property
    def whose(self) -> str:
        """The server that it is a version of."""
        return f"{self.installation}/{self.namespace}/{self.server}"


def mark_of(request: InstanceRequest, installation: str) -> Mark:
    """The mark that a container for this request carries."""
    wanted = request.instance
    package = wanted.package
    return Mark(
        installation=installation,
        namespace=request.namespace,
        server=request.server,
        hash=request.hash,
        renderer=wanted.renderer,
        uid=request.uid,
        transport=wanted.transport,
        port=wanted.port,
        path=wanted.path,
        host_header=wanted.host_header,
        probe_interval=wanted.probe_interval,
        image=f"{package.registry}:{package.name}=={package.version}" if package else wanted.image,
        peers=wanted.reach.peers,
        secret_env=tuple(each.name for each in wanted.env if each.secret is not None),
        secret_files=tuple(n for n, each in enumerate(wanted.files) if each.secret is not None),
        files=len(wanted.files),
    )


def labels(mark: Mark) -> dict[str, str]:
    """As Docker keeps them. `marked` reads them back."""
    found = {
        "role": SERVER,
        "installation": mark.installation,
        "namespace": mark.namespace,
        "server": mark.server,
        "hash": mark.hash,
        "renderer": str(mark.renderer),
        "uid": mark.uid,
        "transport": mark.transport,
        "port": str(mark.port),
        "path": mark.path,
        "host-header": mark.host_header,
        "probe-interval": str(mark.probe_interval),
        "image": mark.image,
        "peers": ",".join(mark.peers),
        "secret-env": ",".join(mark.secret_env),
        "secret-files": ",".join(map(str, mark.secret_files)),
        "files": str(mark.files),
    }
    return {PREFIX + key: value for key, value in found.items()}


def marked(name: str, found: Mapping[str, str] | None) -> Mark | None:
    """The mark of a server's container; None for a stranger's, a helper container's or an unreadable one.

    The name must fit the labels: a stranger's container may have inherited them from an image that was made of ours.
    """
    if not found or found.get(ROLE) != SERVER:
        return None

    def text(key: str) -> str:
        return found.get(PREFIX + key, "")

    def number(key: str, otherwise: int) -> int:
        value = text(key)
        return int(value) if value.isdecimal() else otherwise

    transport = text("transport")
    if transport not in ("stdio", "streamable-http", "sse") or not name.startswith(_beginning(found)):
        return None
    return Mark(
        installation=text("installation"),
        namespace=text("namespace"),
        server=text("server"),
        hash=text("hash"),
        renderer=number("renderer", 0),
        uid=text("uid"),
        transport=cast("Transport", transport),
        port=number("port", 0),
        path=text("path"),
        host_header=text("host-header"),
        probe_interval=number("probe-interval", 15),
        image=text("image"),
        peers=_words(text("peers")),
        secret_env=_words(text("secret-env")),
        secret_files=tuple(int(each) for each in _words(text("secret-files")) if each.isdecimal()),
        files=number("files", 0),
    )


def _beginning(found: Mapping[str, str]) -> str:
    return "_".join(
        ["tk", *(found.get(PREFIX + key, "") for key in ("installation", "namespace", "server")), ""]
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()
