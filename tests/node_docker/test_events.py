"""What happens to containers, as it happens; and what happens when the daemon goes away."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from anyio.streams.memory import MemoryObjectReceiveStream

from node_docker.conftest import Place, a_runtime, ask
from toolkeeper.errors import Unreachable
from toolkeeper.node.docker.engine import QUICK, Engine
from toolkeeper.node.docker.runtime import DockerRuntime
from toolkeeper.node.docker.settings import DockerSettings

pytestmark = [pytest.mark.docker, pytest.mark.anyio]


@asynccontextmanager
async def changes(runtime: DockerRuntime) -> AsyncIterator[MemoryObjectReceiveStream[str]]:
    """The name of every change, from after the first look on."""
    send, receive = anyio.create_memory_object_stream[str](1000)

    async def pump() -> None:
        async with send:
            async for name in runtime.changes():
                await send.send(name)

    async with anyio.create_task_group() as group:
        group.start_soon(pump)
        assert await receive.receive() == ""
        yield receive
        group.cancel_scope.cancel()
    receive.close()


async def told(stream: MemoryObjectReceiveStream[str], name: str) -> None:
    """Return when that name comes next."""
    with anyio.fail_after(10):
        while await stream.receive() != name:
            pass


async def test_a_removed_container_is_told(place: Place, tiny_image: str) -> None:
    names = [await place.up(ask(f"s{n}", image=tiny_image)) for n in range(5)]
    async with changes(place.runtime) as stream:
        for name in names:
            await anyio.to_thread.run_sync(place.engine.api.remove_container, name, False, False, True)
            await told(stream, name)
            while await place.runtime.look_at(name) is not None:
                await told(stream, name)


@pytest.mark.parametrize("verb", ["stop", "kill", "pause", "restart"])
async def test_what_somebody_does_to_a_container_is_told(place: Place, tiny_image: str, verb: str) -> None:
    name = await place.up(ask(image=tiny_image))
    async with changes(place.runtime) as stream:
        await anyio.to_thread.run_sync(getattr(place.engine.api, verb), name)
        await told(stream, name)


async def test_an_edit_is_told(place: Place, tiny_image: str) -> None:
    name = await place.up(ask(image=tiny_image))
    async with changes(place.runtime) as stream:
        place.engine.api.update_container(name, mem_limit=64 * 1024**2, memswap_limit=64 * 1024**2)
        await told(stream, name)
        place.engine.networks.get("bridge").connect(name)
        await told(stream, name)


async def test_a_crash_is_told(place: Place, tiny_image: str) -> None:
    name = await place.up(ask(image=tiny_image))
    async with changes(place.runtime) as stream:
        place.inside(name, "python3", "-c", "import os; os.kill(1, 15)")
        await told(stream, name)


async def test_what_strangers_do_is_not_told(place: Place, tiny_image: str) -> None:
    async with changes(place.runtime) as stream:
        place.engine.containers.create(tiny_image).remove()
        name = await place.up(ask(image=tiny_image))
        with anyio.fail_after(10):
            found = ""
            while found != name:
                found = await stream.receive()
                assert found.startswith("tk_") or not found


async def test_a_look_sees_what_events_have_not_told_yet(place: Place, tiny_image: str) -> None:
    name = await place.up(ask(image=tiny_image))
    async with changes(place.runtime):
        await place.runtime.look()
        place.engine.api.kill(name, signal="SIGKILL")
        await place.runtime.stop(name, 0)
        assert (await place.runtime.look()).containers[name].container.state == "exited"


async def test_everything_is_looked_at_again_from_time_to_time(place: Place) -> None:
    runtime = a_runtime(replace(place.settings, check_seconds=0.05))
    await runtime.open()
    async with changes(runtime) as stream:
        await told(stream, "")
    await runtime.aclose()


async def test_a_daemon_that_is_not_there_is_said_so(settings: DockerSettings, tmp_path: Path) -> None:
    runtime = a_runtime(replace(settings, socket=tmp_path / "no.sock"))
    for act in (
        runtime.open(),
        runtime.look(),
        runtime.look_at("x"),
        runtime.stop("x", 1),
        runtime.remove("x", 1),
    ):
        with pytest.raises(Unreachable, match=r"no\.sock") as unreachable:
            await act
        assert unreachable.value.reason == "RuntimeUnavailable"
    with pytest.raises(Unreachable):
        await anext(runtime.changes())
    with pytest.raises(Unreachable):
        async with runtime.attach("x"):
            pass
    await runtime.aclose()
    await runtime.aclose()


async def test_a_daemon_that_closes_the_door_is_unreachable(settings: DockerSettings, tmp_path: Path) -> None:
    socket = tmp_path / "docker.sock"

    async def slam(client: anyio.abc.SocketStream) -> None:
        await client.aclose()

    async with await anyio.create_unix_listener(socket) as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, slam)
        runtime = a_runtime(replace(settings, socket=socket))
        with pytest.raises(Unreachable):
            await runtime.look()
        await runtime.aclose()
        group.cancel_scope.cancel()


async def test_a_call_that_was_cancelled_is_waited_for_and_nothing_follows() -> None:
    engine = Engine("unix:///var/run/docker.sock")
    begun, go_on = threading.Event(), threading.Event()
    done: list[str] = []

    def slow() -> None:
        begun.set()
        go_on.wait(10)
        done.append("ended")

    async def calls() -> None:
        await engine.call(slow)
        done.append("followed")

    async with anyio.create_task_group() as group:
        group.start_soon(calls)
        await anyio.to_thread.run_sync(begun.wait)
        group.cancel_scope.cancel()
        go_on.set()
    assert done == ["ended"]
    await engine.aclose()


async def test_a_call_that_has_not_begun_never_begins() -> None:
    engine = Engine("unix:///var/run/docker.sock")
    one_began, go_on = threading.Event(), threading.Event()
    all_waiting_gave_up = anyio.Event()
    begun: list[int] = []
    given_up: list[int] = []

    def slow(n: int) -> None:
        begun.append(n)
        one_began.set()
        go_on.wait(10)

    async def calls(n: int) -> None:
        try:
            await engine.call(slow, n)
        finally:
            given_up.append(n)
            if len(given_up) == 12:
                all_waiting_gave_up.set()

    async with anyio.create_task_group() as group:
        for n in range(QUICK + 12):
            group.start_soon(calls, n)
        await anyio.to_thread.run_sync(one_began.wait)
        group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await all_waiting_gave_up.wait()
        go_on.set()
    assert len(begun) <= QUICK
    assert not set(begun) & set(given_up[:12])
    await engine.aclose()
