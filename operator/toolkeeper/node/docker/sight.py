"""What Docker says of a container, in the words of this project. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

from toolkeeper.node.docker.engine import reason_of
from toolkeeper.node.docker.hardening import RESTARTS
from toolkeeper.node.docker.marks import Mark
from toolkeeper.node.docker.networks import endpoint_address, network_name
from toolkeeper.node.runtime import Seen
from toolkeeper.planning.observed import Container, DockerState, Live

Json = dict[str, Any]

NEVER: Final = "0001-01-01"
"""How Docker writes a time that has not come."""
ANONYMOUS: Final = re.compile(r"[0-9a-f]{64}")
LONGEST_ERROR: Final = 2048
ENDED: Final = ("exited", "dead", "restarting")


@dataclass(frozen=True, slots=True)
class Beside:
    """What is known of a container but not from its inspection."""

    image_digest: str = ""
    last_log: tuple[str, ...] = ()
    files_missing: bool = False
    secret_contents: frozenset[str] = frozenset()


def seen(found: Json, mark: Mark, beside: Beside) -> Seen:
    """From `GET /containers/{id}/json`."""
    state, config = found["State"], found["Config"]
    status = cast("DockerState", state["Status"])
    reason, error = _trouble(state, status, beside)
    ended = status in ("exited", "dead", "restarting")
    container = Container(
        name=name_of(found),
        installation=mark.installation,
        namespace=mark.namespace,
        server=mark.server,
        hash=mark.hash,
        renderer=mark.renderer,
        state=status,
        container_id=found["Id"],
        run_id=state["StartedAt"],
        image=mark.image or config["Image"],
        image_digest=beside.image_digest,
        restarts=found.get("RestartCount", 0),
        exit_code=state["ExitCode"] if ended or error else None,
        oom_killed=bool(state.get("OOMKilled")),
        error_reason=reason,
        error=error,
        last_log=beside.last_log,
        address=_address(found, mark),
        live=_live(found, mark),
        volumes=tuple(sorted(each["Name"] for each in _mounts(found) if each["Type"] == "volume")),
    )
    return Seen(
        container=container,
        transport=mark.transport,
        since=_seconds(state["StartedAt"]) or _seconds(found["Created"]),
        host_header=mark.host_header,
        probe_interval=mark.probe_interval,
        port=mark.port,
        secrets=_secret_values(config, mark) | beside.secret_contents,
    )


def name_of(found: Json) -> str:
    """The container's name, without the slash that Docker puts before it."""
    return str(found["Name"]).removeprefix("/")


def _trouble(state: Json, status: str, beside: Beside) -> tuple[str, str]:
    """(reason, message) of what keeps it from running, where that is more than the end of its process."""
    if beside.files_missing and status != "running":
        return "FilesUnavailable", "its files were in memory and are gone, as after a reboot: create it again"
    text = str(state.get("Error") or "")
    if not text or status == "running":
        return "", ""
    return reason_of(text, "StartFailed"), text[:LONGEST_ERROR]


def _address(found: Json, mark: Mark) -> str:
    if mark.transport == "stdio":
        return ""
    endpoints = found["NetworkSettings"].get("Networks") or {}
    for kind in ("internal", "egress"):
        endpoint = endpoints.get(network_name(mark.installation, kind))
        if endpoint is not None and (address := endpoint_address(endpoint)) is not None:
            return f"http://{address}:{mark.port}{mark.path}"
    return ""


def _live(found: Json, mark: Mark) -> Live:
    host, config = found["HostConfig"], found["Config"]
    return Live(
        memory=host.get("Memory") or 0,
        nano_cpus=host.get("NanoCpus") or 0,
        pids=host.get("PidsLimit") or 0,
        cap_drop=tuple(sorted(host.get("CapDrop") or ())),
        cap_add=tuple(sorted(host.get("CapAdd") or ())),
        read_only_root=bool(host.get("ReadonlyRootfs")),
        user=config.get("User") or "",
        env_names=tuple(sorted({each.partition("=")[0] for each in config.get("Env") or ()})),
        mounts=tuple(sorted(each["Destination"] for each in _mounts(found))),
        networks=networks_of(found["NetworkSettings"].get("Networks") or {}, mark.installation),
        restart=_restart(host.get("RestartPolicy") or {}),
    )


def _restart(policy: Json) -> str:
    """In our words where we have one; Docker calls a policy that was never set by an empty name."""
    name = policy.get("Name") or "no"
    return next((ours for ours, theirs in RESTARTS.items() if theirs["Name"] == name), name)


def networks_of(endpoints: Mapping[str, Json], installation: str) -> tuple[str, ...]:
    """`internal`, `egress`, and the names of networks that are not ours.

    Networks of peers are left out: the node joins and leaves them as peers come and go.
    """
    peers = network_name(installation, "peers")
    ours = {
        network_name(installation, "internal"): "internal",
        network_name(installation, "egress"): "egress",
    }
    return tuple(sorted(ours.get(name, name) for name in endpoints if not name.startswith(f"{peers}_")))


def _mounts(found: Json) -> list[Json]:
    """Named volumes and files; not the nameless volumes that an image asks for."""
    mounts = found.get("Mounts") or ()
    return [each for each in mounts if not ANONYMOUS.fullmatch(each.get("Name") or "")]


def _secret_values(config: Json, mark: Mark) -> frozenset[str]:
    variables = dict(each.split("=", 1) for each in config.get("Env") or () if "=" in each)
    return frozenset(variables[name] for name in mark.secret_env if variables.get(name))


def _seconds(text: str) -> float | None:
    return None if text.startswith(NEVER) else datetime.fromisoformat(text).timestamp()
