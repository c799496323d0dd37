"""What the operator concludes from what a node, or whoever answers in its place, says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from toolkeeper.dtma.client import Budget, NodeClient
from toolkeeper.dtma.wire import LOG_LINE_LIMIT, RESPONSE_LIMIT, CreateBody
from toolkeeper.errors import Conflict, Fenced, Invalid, NotFound, Refused, Unreachable
from toolkeeper.planning.instance import EnvEntry, Instance, SecretUse
from toolkeeper.reconcile.ports import Claim, InstanceRequest, ProbeCredential

pytestmark = pytest.mark.anyio
CLAIM = Claim("test", 3)
NAME = f"tk_test_default_time_{'a' * 8}"


def answering(respond: Callable[[httpx.Request], httpx.Response]) -> NodeClient:
    """A client whose node is a function."""
    return NodeClient("http://node", token="a token, long enough", transport=httpx.MockTransport(respond))


def error(status: int, reason: str) -> Callable[[httpx.Request], httpx.Response]:
    return lambda _: httpx.Response(status, json={"error": {"reason": reason, "message": "because"}})


MEANINGS: list[tuple[int, str, type[Exception], str]] = [
    (401, "AuthenticationFailed", Unreachable, "AuthenticationFailed"),
    (403, "AuthenticationFailed", Unreachable, "AuthenticationFailed"),
    (404, "NotFound", NotFound, ""),
    (404, "NoSuchPath", Unreachable, "ToolboxUnreachable"),
    (409, "Fenced", Fenced, ""),
    (409, "Conflict", Conflict, ""),
    (413, "TooLarge", Refused, "TooLarge"),
    (422, "Invalid", Refused, "Invalid"),
    (422, "no word at all", Refused, "Refused"),
    (429, "TooManyRequests", Unreachable, "ToolboxUnreachable"),
    (500, "Unexpected", Unreachable, "ToolboxUnreachable"),
    (503, "RuntimeUnavailable", Unreachable, "RuntimeUnavailable"),
]


@pytest.mark.parametrize(("status", "reason", "kind", "named"), MEANINGS)
async def test_every_status_has_one_meaning(
    status: int, reason: str, kind: type[Exception], named: str
) -> None:
    client = answering(error(status, reason))
    with pytest.raises(kind, match="because") as caught:
        await client.start(CLAIM, NAME)
    assert getattr(caught.value, "reason", "") == named
    await client.aclose()


STRANGERS = {
    "a proxy's page": httpx.Response(404, text="<h1>Not found</h1>"),
    "another program's error": httpx.Response(404, json={"detail": "Not Found"}),
    "a redirect": httpx.Response(302, headers={"Location": "http://elsewhere"}),
    "an empty answer": httpx.Response(502),
    "a teapot": httpx.Response(418, text="short and stout"),
}


@pytest.mark.parametrize("case", STRANGERS)
async def test_never_takes_a_strangers_word_for_absence(case: str) -> None:
    client = answering(lambda _: STRANGERS[case])
    with pytest.raises(Unreachable):
        await client.remove(CLAIM, NAME, container_id="", drain=0)
    await client.aclose()


UNREADABLE = {
    "no JSON": b"<html>",
    "half of it": b'{"revision": "a:1", "containers": [',
    "another type": b"[]",
    "an unknown state": b'{"revision": "a:1", "runtime": "docker", "containers": [{"name": "x", "state": "happy"}]}',
    "a text without end": b'{"revision": "%b", "runtime": "docker"}' % (b"x" * 1000),
}


@pytest.mark.parametrize("case", UNREADABLE)
async def test_a_state_that_cannot_be_read_is_no_state(case: str) -> None:
    client = answering(lambda _: httpx.Response(200, content=UNREADABLE[case]))
    with pytest.raises(Unreachable, match="cannot be read"):
        await client.state("test")
    await client.aclose()


async def test_what_a_newer_node_adds_is_ignored() -> None:
    content = b'{"revision": "a:1", "runtime": "docker", "mood": "sunny"}'
    client = answering(lambda _: httpx.Response(200, content=content))
    assert (await client.state("test")).revision == "a:1"
    await client.aclose()


async def test_an_endless_answer_is_given_up() -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(2 * RESPONSE_LIMIT // 65536):
            yield b" " * 65536

    client = answering(lambda _: httpx.Response(200, content=endless()))
    with pytest.raises(Unreachable, match="longer than"):
        await client.state("test")
    await client.aclose()


async def test_a_compressed_answer_is_not_unpacked() -> None:
    def compressed(request: httpx.Request) -> httpx.Response:
        assert request.headers["Accept-Encoding"] == "identity"
        return httpx.Response(200, headers={"Content-Encoding": "gzip"}, content=_raw(b"\x1f\x8b"))

    client = answering(compressed)
    with pytest.raises(Unreachable, match="compressed"):
        await client.state("test")
    await client.aclose()


async def test_a_mute_node_is_given_up() -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(mute, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = NodeClient(f"http://127.0.0.1:{port}", budget=Budget(answer=0.05))
        with pytest.raises(Unreachable, match="in time"):
            await client.state("test", since="a:1", wait=0.05)
        await client.aclose()


async def test_nobody_there_is_unreachable() -> None:
    client = NodeClient("http://127.0.0.1:9")
    with pytest.raises(Unreachable) as caught:
        await client.state("test")
    assert caught.value.reason == "ToolboxUnreachable"
    assert isinstance(caught.value.__cause__, httpx.ConnectError)
    await client.aclose()


async def test_every_write_carries_its_claim() -> None:
    requests: list[httpx.Request] = []

    def accept(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(202, json={"accepted": True})

    client = answering(accept)
    await client.create(CLAIM, NAME, _request())
    await client.start(CLAIM, NAME)
    await client.stop(CLAIM, NAME, drain=5)
    await client.restart(CLAIM, NAME, run_id="7")
    await client.remove(CLAIM, NAME, container_id="c", drain=5)
    await client.remove_volume(CLAIM, "tk_v")
    await client.give_credential(CLAIM, NAME, ProbeCredential("v1", "x" * 100_000), container_id="c")
    await client.take_credential(CLAIM, NAME, container_id="c")
    await client.aclose()
    for request in requests:
        assert (request.headers["Toolkeeper-Installation"], request.headers["Toolkeeper-Epoch"]) == (
            "test",
            "3",
        )
        assert request.headers["Authorization"] == "Bearer a token, long enough"
    assert [f"{request.method} {request.url.raw_path.decode()}" for request in requests] == [
        f"PUT /v1/instances/{NAME}",
        f"POST /v1/instances/{NAME}/start",
        f"POST /v1/instances/{NAME}/stop?drain=5",
        f"POST /v1/instances/{NAME}/restart?run_id=7",
        f"DELETE /v1/instances/{NAME}?container_id=c&drain=5",
        "DELETE /v1/volumes/tk_v",
        f"PUT /v1/instances/{NAME}/probe-credential?container_id=c",
        f"DELETE /v1/instances/{NAME}/probe-credential?container_id=c",
    ]


async def test_what_is_sent_is_what_is_received() -> None:
    bodies: list[bytes] = []

    def accept(request: httpx.Request) -> httpx.Response:
        bodies.append(request.content)
        return httpx.Response(202, json={"accepted": True})

    client = answering(accept)
    await client.create(CLAIM, NAME, _request())
    await client.aclose()
    assert CreateBody.model_validate_json(bodies[0]).request() == _request()


async def test_a_log_line_without_end_comes_in_pieces() -> None:
    long = b"x" * (3 * LOG_LINE_LIMIT)
    client = answering(lambda _: httpx.Response(200, content=_raw(b"one\ntwo\n", long, b"\n\xff\nend")))
    lines = [line async for line in client.logs(NAME, tail=10, follow=False)]
    assert lines[:2] == ["one", "two"]
    assert "".join(lines[2:-2]) == long.decode()
    assert lines[-2:] == ["\ufffd", "end"]
    await client.aclose()


async def test_logs_of_nothing_are_not_found() -> None:
    client = answering(error(404, "NotFound"))
    with pytest.raises(NotFound):
        await anext(client.logs(NAME, tail=10, follow=False))
    await client.aclose()


def test_a_token_that_no_header_can_carry_is_refused() -> None:
    with pytest.raises(Invalid):
        NodeClient("http://node", token="two\nlines")


def _request() -> InstanceRequest:
    entry = EnvEntry("PASSWORD", secret=SecretUse("db", "password", "1"))
    instance = Instance(1, "stdio", image="tiny", env=(entry,))
    return InstanceRequest(
        "default", "time", f"v1:sha256:{'a' * 64}", "u", instance, {"db/password": "x"}, "me", "pw"
    )


async def _raw(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
