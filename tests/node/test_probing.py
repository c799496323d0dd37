"""When a node probes, and what it says of it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from toolkeeper.clock import SystemClock
from toolkeeper.errors import Conflict, NotFound
from toolkeeper.node.notebook import Notebook
from toolkeeper.planning.observed import Handshake, Snapshot
from toolkeeper.reconcile.ports import ProbeCredential
from toolkeeper.testing import tiny_mcp
from toolkeeper.testing.canned_http import Reply, Request, json_reply, serving
from toolkeeper.testing.fake_runtime import FakeRuntime
from toolkeeper.testing.nodes import INSTALLATION, Stand, container_of, request_of, standing

pytestmark = pytest.mark.anyio
TIME = container_of("time")


class Server(tiny_mcp.Server):
    """Hangs up on everybody when it ends, as a process does."""

    def __init__(self, address: tuple[str, int], token: str) -> None:
        super().__init__(address, type("Connection", (tiny_mcp.Connection,), {"token": token}))
        self.connections: list[socket.socket] = []

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, peer = super().get_request()
        self.connections.append(connection)
        return connection, peer

    def hang_up(self) -> None:
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def listening(port: int = 0, *, token: str = "") -> Generator[int]:
    """A real MCP server in a thread, which demands that token; its port."""
    with Server(("127.0.0.1", port), token) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
            server.hang_up()


def free_port() -> int:
    with listening() as port:
        return port


def runtime_at(port: int, *, age: float = 0.0, loopback: bool | None = None) -> FakeRuntime:
    since = SystemClock().now().timestamp() - age
    address = f"http://127.0.0.1:{port}/mcp"
    return FakeRuntime(address=address, since=since, probe_interval=0, loopback=loopback)


async def created(stand: Stand) -> None:
    claim = await stand.client.claim(INSTALLATION, 0)
    await stand.client.create(claim, TIME, request_of("time"))


def handshake(snapshot: Snapshot) -> Handshake | None:
    return snapshot.containers[0].handshake if snapshot.containers else None


def ready(snapshot: Snapshot) -> bool:
    found = handshake(snapshot)
    return found is not None and found.ok


async def test_a_server_is_ready_as_soon_as_it_listens() -> None:
    port = free_port()
    async with standing(runtime_at(port, age=-60)) as stand:  # however long the test takes, it is young
        await created(stand)
        starting = await stand.until(lambda now: now.containers and now.containers[0].state == "running")
        assert handshake(starting) is None
        with listening(port):
            found = handshake(await stand.until(ready))
    assert found is not None
    assert (found.server_name, found.tools) == ("tiny-mcp", ("echo",))


class StoppedClock(SystemClock):
    """Nothing grows older."""

    def monotonic(self) -> float:
        return 1000.0


async def test_a_server_that_only_starts_is_no_news() -> None:
    async with standing(runtime_at(free_port(), age=-60), clock=StoppedClock()) as stand:
        await created(stand)
        first = await stand.until(lambda now: now.containers and now.containers[0].state == "running")
        again = await stand.client.state(INSTALLATION, since=first.revision, wait=0.3)
    assert again.revision == first.revision


async def test_a_server_that_should_long_listen_is_named() -> None:
    async with standing(runtime_at(free_port(), age=60)) as stand:
        await created(stand)
        found = handshake(await stand.until(handshake))
    assert found is not None
    assert (found.ok, found.reason) == (False, "ConnectionRefused")


async def test_a_server_that_hides_on_its_own_loopback_is_named() -> None:
    async with standing(runtime_at(free_port(), age=60, loopback=True)) as stand:
        await created(stand)
        found = handshake(await stand.until(handshake))
    assert found is not None
    assert found.reason == "BoundToLoopback"


async def test_failures_in_a_row_are_counted_and_forgiven() -> None:
    port = free_port()
    async with standing(runtime_at(port)) as stand:
        await created(stand)
        with listening(port):
            await stand.until(ready)
        await stand.until(lambda now: now.containers[0].probe_failures >= 3)
        with listening(port):
            assert (await stand.until(ready)).containers[0].probe_failures == 0


async def test_a_probe_that_tells_the_same_changes_nothing() -> None:
    with listening() as port:
        async with standing(runtime_at(port)) as stand:
            await created(stand)
            first = await stand.until(ready)
            again = await stand.client.state(INSTALLATION, since=first.revision, wait=0.3)
    assert again.revision == first.revision


async def test_another_run_is_another_handshake() -> None:
    with listening() as port:
        runtime = runtime_at(port)
        async with standing(runtime) as stand:
            await created(stand)
            await stand.until(ready)
            runtime.change(TIME, state="exited", exit_code=1)
            assert handshake(await stand.until(lambda now: now.containers[0].state == "exited")) is None
            runtime.change(TIME, state="running", run_id="another")
            assert (await stand.until(ready)).containers[0].run_id == "another"


async def test_the_definitions_of_the_tools_are_kept_apart() -> None:
    with listening() as port:
        async with standing(runtime_at(port)) as stand:
            await created(stand)
            with pytest.raises(NotFound):
                await stand.client.tools(TIME)
            found = handshake(await stand.until(ready))
            definitions = await stand.client.tools(TIME)
    assert found is not None
    assert definitions.tools == tuple(tiny_mcp.LIST)
    assert definitions.tools_hash == found.tools_hash


async def test_only_the_agent_that_was_claimed_speaks_to_a_server() -> None:
    with listening() as port:
        runtime = runtime_at(port)
        async with standing(runtime) as stand, standing(runtime) as other:
            await created(stand)
            await stand.until(ready)
            seen = await other.until(lambda now: now.containers)
            assert handshake(seen) is None
            await other.client.claim(INSTALLATION, 0)
            await other.until(ready)


async def test_a_restarted_agent_never_shows_a_healthy_server_as_never_probed(tmp_path: Path) -> None:
    with listening() as port:
        runtime = runtime_at(port, age=600)
        async with standing(runtime) as stand:
            await created(stand)
            await stand.until(ready)
        # Without the handshakes of the agent before: it has to probe before it says anything.
        notebook = Notebook(tmp_path / "new.db")
        notebook.keep_epoch(INSTALLATION, 1)
        notebook.close()
        async with standing(runtime, tmp_path / "new.db") as stand:
            assert ready(await stand.client.state(INSTALLATION))


def asks(snapshot: Snapshot) -> bool:
    found = handshake(snapshot)
    return found is not None and found.reason == "AuthRequired"


def shown(reason: str, version: str) -> Callable[[Snapshot], bool]:
    """Whether the server said that to the credential of that version, which is the one in force."""

    def holds(snapshot: Snapshot) -> bool:
        found = handshake(snapshot)
        return (
            found is not None
            and (found.reason, found.credential) == (reason, version)
            and snapshot.containers[0].probe_credential == version
        )

    return holds


async def test_a_credential_opens_a_server_and_is_shown_until_it_is_taken_back() -> None:
    with listening(token="s3cret-s3cret") as port:
        async with standing(replace(runtime_at(port), probe_interval=600)) as stand:
            claim = await stand.client.claim(INSTALLATION, 0)
            await stand.client.create(claim, TIME, request_of("time"))
            container_id = (await stand.until(asks)).containers[0].container_id

            async def give(version: str, value: str) -> None:
                credential = ProbeCredential(version, value)
                await stand.client.give_credential(claim, TIME, credential, container_id=container_id)

            await give("v1", "wr0ng-wr0ng")
            refused = await stand.until(shown("CredentialsRefused", "v1"))
            assert (ready(refused), refused.containers[0].probe_failures) == (True, 0)
            await give("v2", "s3cret-s3cret\n")
            opened = handshake(await stand.until(shown("Reachable", "v2")))
            assert opened is not None
            assert opened.tools == ("echo",)
            await stand.client.take_credential(claim, TIME, container_id=container_id)
            again = await stand.until(shown("AuthRequired", ""))
            assert again.containers[0].container_id == container_id


async def test_the_first_probe_shows_the_credential_that_came_with_the_creation() -> None:
    with listening(token="s3cret-s3cret") as port:
        runtime = runtime_at(port)
        runtime.gate.clear()
        async with standing(runtime) as stand:
            claim = await stand.client.claim(INSTALLATION, 0)
            await stand.client.create(claim, TIME, request_of("time"))
            credential = ProbeCredential("v1", "s3cret-s3cret")
            await stand.client.give_credential(claim, TIME, credential, container_id="")
            runtime.gate.set()
            first = handshake(await stand.until(handshake))
    assert first is not None
    assert (first.reason, first.tools) == ("Reachable", ("echo",))


async def test_a_credential_is_for_one_container_and_dies_with_it() -> None:
    with listening(token="s3cret-s3cret") as port:
        runtime = runtime_at(port)
        async with standing(runtime) as stand:
            claim = await stand.client.claim(INSTALLATION, 0)
            await stand.client.create(claim, TIME, request_of("time"))
            await stand.until(asks)
            credential = ProbeCredential("v1", "s3cret-s3cret")
            with pytest.raises(Conflict):
                await stand.client.give_credential(claim, TIME, credential, container_id="another")
            await stand.client.give_credential(claim, TIME, credential, container_id="")
            await stand.until(shown("Reachable", "v1"))
            runtime.change(TIME, container_id="made-by-somebody", run_id="run-99")
            await stand.until(shown("AuthRequired", ""))


def contents(folder: Path) -> list[bytes]:
    return [each.read_bytes() for each in folder.iterdir()]


async def test_a_server_that_calls_itself_by_its_credential_is_masked(tmp_path: Path) -> None:
    value = "s3cret-s3cret"

    def telltale(request: Request) -> Reply:
        if request.headers.get("authorization") != f"Bearer {value}":
            return json_reply({}, 401)
        said = json.dumps(tiny_mcp.answer(request.message))
        return json_reply(json.loads(said.replace("tiny-mcp", f"server of {value}")))

    async with serving(telltale) as base:
        port = int(base.rpartition(":")[2])
        async with standing(runtime_at(port), tmp_path / "notes") as stand:
            claim = await stand.client.claim(INSTALLATION, 0)
            await stand.client.create(claim, TIME, request_of("time"))
            await stand.client.give_credential(claim, TIME, ProbeCredential("v1", value), container_id="")
            found = handshake(await stand.until(shown("Reachable", "v1")))
    assert found is not None
    assert found.server_name == "server of ••••"
    assert not [each for each in contents(tmp_path) if value.encode() in each]


async def test_a_credential_stays_out_of_files_logs_and_answers(tmp_path: Path) -> None:
    value = "s3cret-s3cret"
    with listening(token=value) as port:
        runtime = replace(runtime_at(port), lines=(f"somebody showed Bearer {value}", f"token={value}"))
        async with standing(runtime, tmp_path / "notes") as stand:
            claim = await stand.client.claim(INSTALLATION, 0)
            await stand.client.create(claim, TIME, request_of("time"))
            credential = ProbeCredential("v1", f"Bearer {value}")
            await stand.client.give_credential(claim, TIME, credential, container_id="")
            await stand.until(shown("Reachable", "v1"))
            state = await stand.node.state(INSTALLATION, "", 0)
            told = [line async for line in stand.client.logs(TIME, tail=10, follow=False)]
            metrics = await stand.node.metrics_text()
    assert len(told) == 2
    for text in (state, metrics, "".join(told).encode(), repr(credential).encode(), *contents(tmp_path)):
        assert value.encode() not in text
