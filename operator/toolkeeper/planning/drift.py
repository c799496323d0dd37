"""What somebody changed on a running container, field by field."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from toolkeeper.planning.instance import Instance
from toolkeeper.planning.observed import Container, Live
from toolkeeper.resources.quantity import print_cpus, print_memory

OURS = "tk_"
"""What the names of peer networks begin with: belonging to one more or fewer of those is no edit of this server."""


@dataclass(frozen=True, slots=True)
class Drift:
    """One field that is not as it was made."""

    field: str
    wanted: str
    found: str

    def __str__(self) -> str:
        return f"{self.field}: {self.wanted} → {self.found}"


def drifts(instance: Instance, container: Container) -> tuple[Drift, ...]:
    """Every field of the container that is not as `instance` says; empty where the runtime has no such notion."""
    live = container.live
    if live is None:
        return ()
    return tuple(found for check in CHECKS for found in check(instance, live, container))


def expected(instance: Instance) -> Live:
    """What a faithful host reports of a container made from `instance`."""
    hardening = instance.hardening
    return Live(
        memory=instance.limits.memory,
        nano_cpus=instance.limits.nano_cpus,
        pids=instance.limits.pids,
        cap_drop=hardening.cap_drop,
        cap_add=hardening.cap_add,
        read_only_root=hardening.read_only_root,
        user=hardening.user,
        env_names=tuple(entry.name for entry in instance.env),
        mounts=tuple(sorted(_mounts(instance))),
        networks=(_network(instance),),
        restart=instance.restart,
    )


def _network(instance: Instance) -> str:
    return "egress" if instance.reach.egress == "allow" else "internal"


def _mounts(instance: Instance) -> set[str]:
    return {each.path for each in instance.volumes} | {each.path for each in instance.files}


def _capabilities(names: tuple[str, ...]) -> set[str]:
    return {name.upper().removeprefix("CAP_") for name in names}


def _words(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _limit(number: str) -> str:
    return "unlimited" if number == "0" else number


def _numbers(instance: Instance, live: Live, container: Container) -> Iterator[Drift]:
    limits = instance.limits
    if live.memory != limits.memory:
        yield Drift("memory", print_memory(limits.memory), _limit(print_memory(live.memory)))
    if live.nano_cpus != limits.nano_cpus:
        yield Drift("cpu", print_cpus(limits.nano_cpus), _limit(print_cpus(live.nano_cpus)))
    if live.pids != limits.pids:
        yield Drift("pids", f"{limits.pids}", _limit(f"{live.pids}"))


def _hardening(instance: Instance, live: Live, container: Container) -> Iterator[Drift]:
    wanted = instance.hardening
    for field, ours, theirs in (
        ("capDrop", wanted.cap_drop, live.cap_drop),
        ("capAdd", wanted.cap_add, live.cap_add),
    ):
        if ours != theirs and _capabilities(ours) != _capabilities(theirs):
            yield Drift(field, _words(_capabilities(ours)), _words(_capabilities(theirs)))
    if live.read_only_root != wanted.read_only_root:
        yield Drift("readOnlyRoot", f"{wanted.read_only_root}".lower(), f"{live.read_only_root}".lower())
    # Without a user of ours the image's counts, and that one is not known here.
    if wanted.user and live.user != wanted.user:
        yield Drift("user", wanted.user, live.user or "the image's")


def _content(instance: Instance, live: Live, container: Container) -> Iterator[Drift]:
    lacking = {entry.name for entry in instance.env}.difference(live.env_names)
    if lacking:
        yield Drift("env", "set", f"without {_words(lacking)}")
    if instance.volumes or instance.files:
        lacking = _mounts(instance).difference(live.mounts)
        if lacking:
            yield Drift("mounts", "mounted", f"without {_words(lacking)}")


def _networks(instance: Instance, live: Live, container: Container) -> Iterator[Drift]:
    wanted = _network(instance)
    if live.networks == (wanted,):
        return
    found = {name for name in live.networks if not name.startswith(OURS)}
    if found != {wanted}:
        yield Drift("networks", wanted, _words(found))


def _restarts(instance: Instance, live: Live, container: Container) -> Iterator[Drift]:
    if live.restart not in ("", instance.restart):
        yield Drift("restartPolicy", instance.restart, live.restart)


def _image(instance: Instance, live: Live, container: Container) -> Iterator[Drift]:
    _, pinned, digest = instance.image.partition("@")
    if pinned and container.image_digest and container.image_digest.rpartition("@")[2] != digest:
        yield Drift("image", digest, container.image_digest.rpartition("@")[2])


CHECKS: tuple[Callable[[Instance, Live, Container], Iterator[Drift]], ...] = (
    _image,
    _numbers,
    _hardening,
    _content,
    _networks,
    _restarts,
)
