"""Servers as child processes: they outlive the agent, come back by themselves, and leave nothing behind."""

from __future__ import annotations

import os
import random
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pytest

from toolkeeper.clock import SystemClock
from toolkeeper.errors import Refused
from toolkeeper.node.choosing import Chosen, choose
from toolkeeper.node.process import table as process_table
from toolkeeper.node.process.environments import Environments
from toolkeeper.node.process.runtime import ProcessRuntime
from toolkeeper.node.settings import NodeSettings
from toolkeeper.planning.instance import (
    EnvEntry,
    FileEntry,
    Instance,
    Limits,
    PackageSource,
    SecretUse,
    VolumeMount,
)
from toolkeeper.planning.observed import Container, Snapshot
from toolkeeper.reconcile.ports import Claim
from toolkeeper.telemetry.logs import Silent
from toolkeeper.testing.nodes import INSTALLATION, Stand, container_of, request_of, standing, tiny_instance
from toolkeeper.testing.wheels import make_wheel

pytestmark = [pytest.mark.anyio, pytest.mark.process]
TIME = container_of("time")

TALKER = """
import os, sys, time

def say(*words):
    print(*words, file=sys.stderr, flush=True)

def main():
    what = sys.argv[1]
    if what == "say":
        say(*sys.argv[2:])
        say(os.environ.get("WORD", ""))
        time.sleep(600)
    if what == "exit":
        say("last words")
        sys.exit(int(sys.argv[2]))
    if what == "falter":
        with open("runs", "a") as runs:
            runs.write("x")
        if os.stat("runs").st_size <= int(sys.argv[2]):
            say("last words")
            sys.exit(3)
        time.sleep(600)
    if what == "eat":
        hoard = [bytearray(1 << 20) for _ in range(int(sys.argv[2]))]
        time.sleep(600)
    if what == "read":
        say(open(sys.argv[2]).read())
        time.sleep(600)
    if what == "family":
        if os.fork() == 0:
            os.setpgid(0, 0)
            while True: time.sleep(600)
        time.sleep(600)
    if what == "deaf":
        import signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        say("deaf now")
        while True: time.sleep(600)
    if what == "chatter":
        for number in range(int(sys.argv[2])):
            say("x" * 99)
        say("done")
        time.sleep(600)
"""


@dataclass
class Host:
    """A place where nodes with processes come and go."""

    root: Path
    settings: dict[str, str]
    cache: Path

    def runtime(self) -> ProcessRuntime:
        return ProcessRuntime(
            self.root / "process",
            clock=SystemClock(),
            new_id=lambda: secrets.token_hex(16),
            settings=self.settings,
            cache=self.cache,
        )

    @asynccontextmanager
    async def node(self) -> AsyncIterator[Stand]:
        async with standing(self.runtime(), self.root / "node.db") as stand:
            yield stand


@pytest.fixture
async def host(tmp_path: Path, package_settings: dict[str, str], package_cache: Path) -> AsyncIterator[Host]:
    index = Path(package_settings["PIP_FIND_LINKS"])
    make_wheel(index, "talker", "1.0", TALKER)
    host = Host(tmp_path, package_settings, package_cache)
    yield host
    runtime = host.runtime()
    await runtime.open()
    for name in (await runtime.look()).containers:
        await runtime.remove(name, 0)
    await runtime.aclose()


def talker(*arguments: str, **changes: Any) -> Instance:
    """A program that is no MCP server."""
    tiny = tiny_instance(transport="stdio")
    assert tiny.package is not None
    package = replace(tiny.package, name="talker", version="1.0")
    return replace(tiny, package=package, args=arguments, **changes)


async def created(stand: Stand, instance: Instance, **secret_values: str) -> Claim:
    epoch = (await stand.client.state(INSTALLATION)).epoch
    claim = await stand.client.claim(INSTALLATION, epoch)
    await stand.client.create(claim, TIME, request_of("time", instance, secrets=secret_values))
    return claim


async def until(stand: Stand, holds: Callable[[Container], object]) -> Container:
    """The container as soon as that holds."""

    def matches(snapshot: Snapshot) -> bool:
        return any(holds(each) for each in snapshot.containers)

    return next(each for each in (await stand.until(matches)).containers if holds(each))


def answers(container: Container) -> bool:
    return container.handshake is not None and container.handshake.ok


def state(word: str) -> Callable[[Container], bool]:
    return lambda container: container.state == word


def pid_of(stand: Stand) -> int:
    runtime = stand.node.runtime
    assert isinstance(runtime, ProcessRuntime)
    pid = runtime._children[TIME].pid
    assert pid is not None
    return pid


async def line(stand: Stand, wanted: str) -> list[str]:
    """The log up to a line, as it is followed."""
    lines = []
    async for each in stand.node.runtime.logs(TIME, tail=1000, follow=True):
        lines.append(each)
        if wanted in each:
            return lines
    raise AssertionError(f"{wanted!r} is not in {lines}")


async def test_a_server_outlives_the_agent_and_is_recognised_by_the_next(host: Host) -> None:
    async with host.node() as stand:
        await created(stand, tiny_instance())
        before = await until(stand, answers)
        pid = pid_of(stand)
    os.kill(pid, 0)
    async with host.node() as stand:
        [after] = (await stand.client.state(INSTALLATION)).containers
        assert (after.run_id, after.restarts, after.state) == (before.run_id, 0, "running")
        assert after.handshake == before.handshake
        assert pid_of(stand) == pid


async def test_servers_that_run_as_processes_are_not_left_alone_when_docker_arrives(host: Host) -> None:
    async with host.node() as stand:
        await created(stand, tiny_instance())
        await until(stand, answers)
        pid = pid_of(stand)
    docker = host.root / "docker.sock"
    docker.touch()

    async def chosen(runtime: Literal["auto", "docker"]) -> Chosen:
        return await choose(
            NodeSettings(state_dir=host.root, cache_dir=host.cache, docker_socket=docker, runtime=runtime),
            clock=SystemClock(),
            environ=host.settings,
            new_id=lambda: secrets.token_hex(16),
            chance=random.Random(7),
            log=Silent(),
        )

    next_one = await chosen("auto")
    assert (next_one.runtime.name, next_one.because) == ("process", "it runs servers already: time")
    assert [each.container.state for each in (await next_one.runtime.look()).containers.values()] == [
        "running"
    ]
    await next_one.runtime.aclose()
    with pytest.raises(Refused, match="let --runtime process remove them first"):
        await chosen("docker")
    os.kill(pid, 0)


async def test_a_stdio_server_is_probed_once_per_run_not_once_per_agent(host: Host) -> None:
    async with host.node() as stand:
        await created(stand, tiny_instance(transport="stdio"))
        before = await until(stand, answers)
        assert (await stand.client.tools(TIME)).tools[0]["name"] == "echo"
    async with host.node() as stand:
        [after] = (await stand.client.state(INSTALLATION)).containers
        assert after.handshake == before.handshake
        assert (await stand.client.tools(TIME)).tools[0]["name"] == "echo"
        text = await stand.node.metrics_text()
        assert b"toolkeeper_node_probes_total{" not in text


async def test_a_killed_server_comes_back_as_another_run(host: Host) -> None:
    async with host.node() as stand:
        await created(stand, tiny_instance())
        before = await until(stand, answers)
        session = process_table.sessions()[pid_of(stand)]
        os.kill(session.members[-1], signal.SIGKILL)
        again = await until(stand, lambda each: answers(each) and each.run_id != before.run_id)
        assert again.restarts == 1
        assert again.container_id == before.container_id


async def test_a_server_that_ended_while_no_agent_ran_is_started_again(host: Host) -> None:
    async with host.node() as stand:
        await created(stand, tiny_instance())
        before = await until(stand, answers)
        pid = pid_of(stand)
    process_table.kill(pid, signal.SIGKILL)
    async with host.node() as stand:
        again = await until(stand, answers)
        assert again.run_id != before.run_id
        assert again.restarts == 1


async def test_a_stopped_server_stays_stopped_for_the_next_agent(host: Host) -> None:
    async with host.node() as stand:
        claim = await created(stand, tiny_instance())
        await until(stand, answers)
        await stand.client.stop(claim, TIME, drain=5)
        await until(stand, state("exited"))
    async with host.node() as stand:
        [after] = (await stand.client.state(INSTALLATION)).containers
        assert (after.state, after.exit_code) == ("exited", 0)


async def test_a_server_that_exits_is_restarted_with_back_off_and_says_why(host: Host) -> None:
    async with host.node() as stand:
        await created(stand, talker("falter", "3"))
        crashing = await until(stand, state("restarting"))
        assert crashing.exit_code == 3
        assert "last words" in crashing.last_log
        again = await until(stand, lambda each: each.restarts == 3 and each.state == "running")
        assert again.exit_code == 3, "while it runs again it still says how the last run ended"
        assert "last words" in again.last_log


@pytest.mark.parametrize(("policy", "code"), [("Never", 1), ("Never", 0), ("OnFailure", 0)])
async def test_a_policy_may_leave_it_at_that(host: Host, policy: Any, code: int) -> None:
    async with host.node() as stand:
        await created(stand, talker("exit", str(code), restart=policy))
        ended = await until(stand, state("exited"))
        assert (ended.exit_code, ended.restarts) == (code, 0)


async def test_too_much_memory_is_a_kill_that_says_so(host: Host) -> None:
    async with host.node() as stand:
        await created(stand, talker("eat", "200", restart="Never", limits=Limits(memory=64 << 20)))
        killed = await until(stand, state("exited"))
        assert (killed.oom_killed, killed.exit_code) == (True, 137)


async def test_a_deaf_server_is_killed_after_its_drain(host: Host) -> None:
    async with host.node() as stand:
        claim = await created(stand, talker("deaf"))
        await until(stand, state("running"))
        await line(stand, "deaf now")
        await stand.client.stop(claim, TIME, drain=0)
        assert (await until(stand, state("exited"))).exit_code == 137


async def test_removal_takes_every_process_and_every_file(host: Host) -> None:
    async with host.node() as stand:
        claim = await created(stand, talker("family"))
        await until(stand, state("running"))
        pid = pid_of(stand)
        await stand.client.remove(claim, TIME, container_id="", drain=1)
        await stand.until(lambda now: not now.containers)
        assert pid not in process_table.sessions()
    assert list((host.root / "process" / "servers").iterdir()) == []


async def test_secrets_reach_the_server_but_neither_the_log_nor_the_disk(host: Host) -> None:
    secret = "hunter22-with-some-length"
    entry = EnvEntry("WORD", secret=SecretUse("db", "word", "1"))
    async with host.node() as stand:
        await created(stand, talker("say", "hello", env=(entry,)), **{"db/word": secret})
        await until(stand, state("running"))
        raw = await line(stand, secret)
        assert raw == ["hello", secret] or secret in raw
        masked = [each async for each in stand.client.logs(TIME, tail=10, follow=False)]
        assert masked == [each if each == "hello" else "••••" for each in raw]
    folder = host.root / "process"
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in {"log", "output"}]
    assert files
    assert not [path for path in files if secret.encode() in path.read_bytes()]
    assert not [path for path in files if path.stat().st_mode & 0o077 and "environments" not in path.parts]
    async with host.node() as stand:
        masked = [each async for each in stand.client.logs(TIME, tail=10, follow=False)]
        assert secret not in masked


async def test_volumes_and_files_are_found_where_arguments_say(host: Host) -> None:
    instance = talker(
        "read",
        "/etc/talker/words.txt",
        "/data",
        files=(FileEntry("/etc/talker/words.txt", value="the words of the file"),),
        volumes=(VolumeMount("tk_notes", "/data"),),
    )
    async with host.node() as stand:
        claim = await created(stand, instance)
        await until(stand, state("running"))
        await line(stand, "the words of the file")
        assert (await stand.client.state(INSTALLATION)).volumes == ("tk_notes",)
        await stand.client.remove(claim, TIME, container_id="", drain=0)
        await stand.until(lambda now: not now.containers)
        assert (await stand.client.state(INSTALLATION)).volumes == ("tk_notes",)
        await stand.client.remove_volume(claim, "tk_notes")
        await stand.until(lambda now: now.volumes == ())


async def test_a_file_that_the_server_would_look_for_in_vain_is_refused(host: Host) -> None:
    instance = talker("say", "x", files=(FileEntry("/etc/talker/words.txt", value="unread"),))
    async with host.node() as stand:
        await created(stand, instance)
        failed = await until(stand, state("failed"))
        assert failed.error_reason == "RuntimeUnsupported"
        assert "/etc/talker/words.txt" in failed.error


async def test_a_port_that_is_taken_is_named(host: Host) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        own = replace(tiny_instance(), port=port, args=("--port", str(port)))
        async with host.node() as stand:
            await created(stand, own)
            failed = await until(stand, state("failed"))
            assert failed.error_reason == "PortInUse"
            assert str(port) in failed.error or "{{port}}" in failed.error


async def test_servers_that_take_the_port_they_are_given_share_a_host(host: Host) -> None:
    async with host.node() as stand:
        claim = await stand.client.claim(INSTALLATION, 0)
        for server in ("one", "two", "three"):
            request = request_of(server, tiny_instance())
            await stand.client.create(claim, container_of(server), request)
        snapshot = await stand.until(lambda now: sum(answers(each) for each in now.containers) == 3)
        assert len({each.address for each in snapshot.containers}) == 3


async def test_the_log_is_bounded(host: Host) -> None:
    instance = talker("chatter", "60000")
    instance = replace(instance, hardening=replace(instance.hardening, log_max_size="1m", log_max_files=2))
    async with host.node() as stand:
        await created(stand, instance)
        await until(stand, state("running"))
        folder = host.root / "process" / "servers" / TIME
        while not (folder / "log.1").exists():
            await stand.client.state(INSTALLATION, since=(await _revision(stand)), wait=0.2)
        assert (folder / "log").stat().st_size < 8 << 20


async def test_an_image_needs_docker_and_says_so(host: Host) -> None:
    async with host.node() as stand:
        await created(stand, Instance(1, "stdio", image="nginx"))
        failed = await until(stand, state("failed"))
        assert failed.error_reason == "RuntimeUnsupported"
        assert "--runtime docker" in failed.error


async def test_what_cannot_be_installed_ends_with_what_pip_said(host: Host) -> None:
    async with host.node() as stand:
        await created(stand, tiny_instance(version="99.0"))
        failed = await until(stand, state("failed"))
        assert failed.error_reason == "BuildFailed"
        assert "tiny-mcp==99.0" in failed.error


async def test_what_the_user_keeps_for_other_programs_is_not_taken_for_installed(
    host: Host, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "talker-1.0.dist-info").mkdir(parents=True)
    (elsewhere / "talker-1.0.dist-info" / "METADATA").write_text("Name: talker\nVersion: 1.0\n")
    settings = {**host.settings, "PYTHONPATH": str(elsewhere), "PIP_TARGET": str(elsewhere)}
    package = talker().package
    assert package is not None
    found = await Environments(tmp_path / "cache", settings).ensure(package, lambda _: None)
    assert (found.path / "bin" / "talker").is_file()


async def test_a_missing_debian_package_is_named(host: Host) -> None:
    package = PackageSource("pypi", "tiny-mcp", "1.0.0", system=("no-such-tool",))
    async with host.node() as stand:
        await created(stand, replace(tiny_instance(), package=package))
        failed = await until(stand, state("failed"))
        assert failed.error_reason == "RuntimeUnsupported"
        assert "no-such-tool" in failed.error


async def _revision(stand: Stand) -> str:
    return (await stand.client.state(INSTALLATION)).revision
