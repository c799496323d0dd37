"""From the instance wanted to the command line of a child process. Pure.

A process has no file system of its own: where an argument or a variable names the path of a volume or a file, it gets
the real place instead; a path that none of them names is refused. `{{port}}` becomes the port that it was given and
`{{host}}` the address to listen on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from toolkeeper.node.runtime import Seen
from toolkeeper.planning.instance import Instance, PackageSource
from toolkeeper.planning.observed import Container, DockerState
from toolkeeper.reconcile.ports import InstanceRequest

HOST = "127.0.0.1"
_PASSED_ON = (
    "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS",
)  # fmt: skip
"""Of the agent's own environment: words and trust, no secrets."""


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything needed to start one server again and again, also by the next agent. Kept on disk."""

    name: str
    installation: str
    namespace: str
    server: str
    hash: str
    renderer: int
    uid: str
    id: str
    created: float
    transport: Literal["stdio", "streamable-http", "sse"]
    port: int
    path: str
    host_header: str
    probe_interval: int
    image: str
    argv: tuple[str, ...]
    memory: int
    nofile: int
    log_size: int
    log_files: int
    restart: Literal["Always", "OnFailure", "Never"]
    volumes: tuple[str, ...] = ()
    environment: str = ""
    """The installed package it runs from."""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Turns:
    """How the runs of a launch went."""

    state: DockerState = "created"
    run_id: str = ""
    since: float = 0.0
    restarts: int = 0
    exit_code: int | None = None
    oom_killed: bool = False
    error_reason: str = ""
    error: str = ""


def named(package: PackageSource) -> str:
    """What stands where a container has its image."""
    return f"{package.registry}:{package.name}@{package.version}"


def wants_port(instance: Instance) -> bool:
    """Whether it takes the port that it is told; one that says nothing may be bound to its own."""
    texts = (*instance.command, *instance.args, *(entry.value or "" for entry in instance.env))
    return any("{{port}}" in text for text in texts)


def unnamed(instance: Instance) -> tuple[str, ...]:
    """The paths of volumes and files that the server would look for in vain, because it is told none of them."""
    told = (*instance.command, *instance.args, *(entry.value or "" for entry in instance.env))
    paths = [*(mount.path for mount in instance.volumes), *(file.path for file in instance.files)]
    return tuple(path for path in paths if not any(_naming([path]).search(text) for text in told))


def size(text: str) -> int:
    """Bytes of a size such as `10m`; 10 MiB for what cannot be read."""
    match = re.fullmatch(r"([0-9]{1,9})([bkmg]?)", text.lower())
    return int(match[1]) * 1024 ** "bkmg".index(match[2] or "b") if match else 10 * 1024 * 1024


def secret(request: InstanceRequest, name: str, key: str) -> str:
    """The value of a secret that the request brings (the API has checked that it does)."""
    return request.secrets.get(f"{name}/{key}", "")


class Filling:
    """Fills in what only the host knows: port, address, and the real places of mounts."""

    def __init__(self, port: int, places: Mapping[str, Path]) -> None:
        self._port = port
        self._places = {path.rstrip("/"): place for path, place in places.items() if path.rstrip("/")}
        self._mounted = _naming(self._places) if self._places else None

    def __call__(self, text: str) -> str:
        filled = text.replace("{{port}}", str(self._port)).replace("{{host}}", HOST)
        if self._mounted is None:
            return filled
        return self._mounted.sub(lambda match: str(self._places[match[1]]), filled)


def _naming(paths: Iterable[str]) -> re.Pattern[str]:
    """What finds one of these paths in a text, the longest first."""
    bare = sorted((path.rstrip("/") for path in paths), key=len, reverse=True)
    return re.compile(rf"(?<![\w./-])({'|'.join(map(re.escape, bare))})(?=$|[/,:;\s\"'])")


def environment(
    request: InstanceRequest, fill: Filling, port: int, search: str, home: Path, own: Mapping[str, str]
) -> dict[str, str]:
    """The variables of the child: a few of the agent's own, what every server gets, what its spec says."""
    env = {name: own[name] for name in _PASSED_ON if name in own}
    env |= {"PATH": search, "HOME": str(home), "TMPDIR": str(home / "tmp"), "PYTHONUNBUFFERED": "1"}
    if port:
        env |= {"HOST": HOST, "PORT": str(port)}
    for entry in request.instance.env:
        if entry.secret is not None:
            env[entry.name] = secret(request, entry.secret.name, entry.secret.key)
        else:
            env[entry.name] = fill(entry.value or "")
    return env


def seen(launch: Launch, turns: Turns, last_log: tuple[str, ...]) -> Seen:
    """What the ledger is told."""
    address = f"http://{HOST}:{launch.port}{launch.path}" if launch.port else ""
    container = Container(
        name=launch.name,
        installation=launch.installation,
        namespace=launch.namespace,
        server=launch.server,
        hash=launch.hash,
        renderer=launch.renderer,
        state=turns.state,
        container_id=launch.id,
        run_id=turns.run_id,
        image=launch.image,
        restarts=turns.restarts,
        exit_code=turns.exit_code,
        oom_killed=turns.oom_killed,
        error_reason=turns.error_reason,
        error=turns.error,
        last_log=last_log,
        address=address,
        volumes=launch.volumes,
    )
    return Seen(
        container=container,
        transport=launch.transport,
        since=turns.since or launch.created,
        host_header=launch.host_header,
        probe_interval=launch.probe_interval,
        port=launch.port,
        secrets=frozenset(launch.secrets),
    )
