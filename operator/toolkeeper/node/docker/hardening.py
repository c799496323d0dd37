"""What an instance is allowed to do on this host, as the body of Docker's create call. Pure.

| setting           | restricted (default)                       | where the number comes from |
|-------------------|--------------------------------------------|-----------------------------|
| CapDrop, CapAdd   | ALL, none                                  | `Instance.hardening`        |
| SecurityOpt       | no-new-privileges; default seccomp         | `Instance.hardening`        |
| ReadonlyRootfs    | true, /tmp as tmpfs (64 MB, noexec)        | `Instance.hardening`        |
| User              | 65532:65532                                | `Instance.hardening`        |
| Memory = swap     | 512 MiB: swap is never added               | `Instance.limits`           |
| NanoCpus, Pids    | 1 CPU, 256                                 | `Instance.limits`           |
| Ulimits           | nofile 1024                                | `Instance.hardening`        |
| LogConfig         | json-file, 10 MB in 3 files                | `Instance.hardening`        |
| Init              | true: reaps what the server leaves behind  | `Instance.hardening`        |
| Ipc, cgroup, pid  | private; never the host's                  | always                      |
| IPv6              | off                                        | always                      |
| published ports   | none                                       | always                      |

Nothing of an instance can name a path of the host, a device, a host namespace or the Docker socket: volumes have names,
and files come from this node's own folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from toolkeeper.errors import Refused
from toolkeeper.node.docker.marks import labels, mark_of
from toolkeeper.planning.instance import EnvEntry, Instance
from toolkeeper.planning.naming import hash8
from toolkeeper.reconcile.ports import InstanceRequest

Json = dict[str, Any]

RESTARTS: Final[Mapping[str, Json]] = {
    "Always": {"Name": "unless-stopped", "MaximumRetryCount": 0},
    "OnFailure": {"Name": "on-failure", "MaximumRetryCount": 5},
    "Never": {"Name": "no", "MaximumRetryCount": 0},
}
NO_DNS: Final = ["127.0.0.1"]
"""Where nobody listens: names outside cannot be asked for, which would be a way out of its own."""
QUICK_DNS: Final = ["timeout:1", "attempts:1"]
EVERYWHERE: Final = "0.0.0.0"  # noqa: S104 - of the container, which only this host reaches
LONGEST_HOSTNAME: Final = 63
VOLUME_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
CAPABILITY: Final = re.compile(r"[A-Z][A-Z_]{2,31}")


@dataclass(frozen=True, slots=True)
class Place:
    """Where on this host it goes."""

    image: str
    """The image's id or name, present on the host."""
    network: str
    address: str
    files: tuple[Path, ...] = ()
    """One file on the host for each of `Instance.files`."""
    ipv6: bool = True
    """Whether the host's kernel knows IPv6, which is then switched off inside."""
    seeds_volumes: bool = False
    """Whether an empty volume starts with what the image has at its path, with the owners of the image."""


def create_body(request: InstanceRequest, installation: str, place: Place) -> Json:
    """The body of `POST /containers/create`. Raises Refused for what no container of ours may have."""
    wanted = request.instance
    body: Json = {
        "Image": place.image,
        "Hostname": hostname(request),
        "Env": [f"{name}={value}" for name, value in environment(wanted, request.secrets).items()],
        "Labels": labels(mark_of(request, installation)),
        "HostConfig": host_config(wanted, place),
        "NetworkingConfig": {
            "EndpointsConfig": {place.network: {"IPAMConfig": {"IPv4Address": place.address}}},
        },
    }
    if wanted.hardening.user:
        body["User"] = wanted.hardening.user
    if wanted.command:
        body["Entrypoint"] = [_ported(each, wanted) for each in wanted.command]
    if wanted.args:
        body["Cmd"] = [_ported(each, wanted) for each in wanted.args]
    if wanted.transport == "stdio":
        # Open without a reader, so that whoever attaches next finds the same process.
        body |= {"OpenStdin": True, "StdinOnce": False, "Tty": False}
    return body


def hostname(request: InstanceRequest) -> str:
    """Who it is, for whoever reads its logs.

    Not the server's name alone: Docker makes a name in the network of every host name, and the one that peers look for
    would lead to an address that they cannot reach.
    """
    end = f"-{hash8(request.hash)}"
    return request.server[: LONGEST_HOSTNAME - len(end)] + end


def host_config(wanted: Instance, place: Place) -> Json:
    """The `HostConfig` part: every limit and every wall."""
    walls, limits = wanted.hardening, wanted.limits
    for capability in walls.cap_add:
        if not CAPABILITY.fullmatch(capability):
            raise Refused(f"{capability!r} is no capability", reason="CreateFailed")
    return {
        "NetworkMode": place.network,
        "RestartPolicy": RESTARTS[wanted.restart],
        "Memory": limits.memory,
        "MemorySwap": limits.memory,
        "NanoCpus": limits.nano_cpus,
        "PidsLimit": limits.pids,
        "CapDrop": list(walls.cap_drop),
        "CapAdd": list(walls.cap_add),
        "SecurityOpt": ["no-new-privileges:true"] if walls.no_new_privileges else [],
        "ReadonlyRootfs": walls.read_only_root,
        "Tmpfs": dict(walls.tmpfs),
        "Init": walls.init,
        "Ulimits": [{"Name": "nofile", "Soft": walls.nofile, "Hard": walls.nofile}],
        "LogConfig": {
            "Type": "json-file",
            "Config": {"max-size": walls.log_max_size, "max-file": str(walls.log_max_files)},
        },
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "Privileged": False,
        "Sysctls": {"net.ipv6.conf.all.disable_ipv6": "1"} if place.ipv6 else {},
        "Mounts": [*_volumes(wanted, place), *_files(wanted, place)],
        **({"Dns": NO_DNS, "DnsOptions": QUICK_DNS} if wanted.reach.egress == "deny" else {}),
    }


def environment(wanted: Instance, secrets: Mapping[str, str]) -> dict[str, str]:
    """The variables of the container. Raises Refused when the value of a secret was not sent along."""
    given = {each.name: _value(each, wanted, secrets) for each in wanted.env}
    if wanted.package is None or wanted.transport == "stdio":
        return given
    # A package listens where its author likes, mostly on loopback, where nobody outside the container reaches it.
    return {"HOST": EVERYWHERE, "PORT": str(wanted.port), **given}


def contents(wanted: Instance, secrets: Mapping[str, str]) -> tuple[str, ...]:
    """What is in each of the files. Raises Refused when the value of a secret was not sent along."""
    return tuple(
        _secret(secrets, each.secret.name, each.secret.key) if each.secret else each.value or ""
        for each in wanted.files
    )


def _value(entry: EnvEntry, wanted: Instance, secrets: Mapping[str, str]) -> str:
    if entry.secret is not None:
        return _secret(secrets, entry.secret.name, entry.secret.key)
    return _ported(entry.value or "", wanted)


def _secret(secrets: Mapping[str, str], name: str, key: str) -> str:
    try:
        return secrets[f"{name}/{key}"]
    except KeyError as exc:
        raise Refused(f"the value of {name}/{key} was not sent along", reason="CreateFailed") from exc


def _ported(text: str, wanted: Instance) -> str:
    if not wanted.port or "{{" not in text:
        return text
    return text.replace("{{port}}", str(wanted.port)).replace("{{host}}", EVERYWHERE)


def _volumes(wanted: Instance, place: Place) -> list[Json]:
    for each in wanted.volumes:
        if not VOLUME_NAME.fullmatch(each.volume):  # a path would be a folder of the host
            raise Refused(f"{each.volume!r} is no name of a volume", reason="CreateFailed")
    return [
        {
            "Type": "volume",
            "Source": each.volume,
            "Target": each.path,
            "ReadOnly": each.read_only,
            "VolumeOptions": {"NoCopy": not place.seeds_volumes},
        }
        for each in wanted.volumes
    ]


def _files(wanted: Instance, place: Place) -> list[Json]:
    return [
        {"Type": "bind", "Source": str(source), "Target": each.path, "ReadOnly": True}
        for each, source in zip(wanted.files, place.files, strict=True)
    ]
