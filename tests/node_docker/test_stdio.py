"""stdio servers: their standard streams, over and over again."""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import Any

import anyio
import pytest

from node_docker.conftest import Place, a_runtime, ask
from toolkeeper.errors import NotFound, Unreachable
from toolkeeper.node.runtime import ByteStream

pytestmark = [pytest.mark.docker, pytest.mark.anyio]


def stdio(image: str, **more: Any) -> Any:
    return ask(image=image, transport="stdio", port=0, path="", args=("--stdio",), **more)


async def call(stream: ByteStream, id: str, text: str) -> str:
    """What `echo` answers. Answers to others are let pass: whoever else is attached gets all of them as well."""
    params = {"name": "echo", "arguments": {"text": text}}
    message = {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}
    await stream.send(json.dumps(message).encode() + b"\n")
    received = b""
    with anyio.fail_after(20):
        while True:
            piece = await stream.receive()
            assert piece, "the stream ended"
            *lines, received = (received + piece).split(b"\n")
            for answer in map(json.loads, lines):
                if answer["id"] == id:
                    return str(answer["result"]["content"][0]["text"])


async def until(stream: ByteStream, piece: bytes) -> bytes:
    """Everything up to that piece (empty: the end)."""
    received = b""
    while (found := await stream.receive()) and (not piece or piece not in received + found):
        received += found
    assert piece in received + found
    return received + found


async def test_a_stdio_server_answers_and_has_no_address(place: Place, tiny_image: str) -> None:
    name = await place.up(stdio(tiny_image))
    async with place.runtime.attach(name) as stream:
        assert await call(stream, "short", "hello") == "hello"
        assert await call(stream, "long", "x" * 300_000) == "x" * 300_000
    seen = await place.runtime.look_at(name)
    assert seen is not None
    assert (seen.container.address, seen.port) == ("", 0)


async def test_the_same_process_answers_after_leaving_and_after_a_restart_of_the_agent(
    place: Place, tiny_image: str
) -> None:
    name = await place.up(stdio(tiny_image))
    before = await place.runtime.look_at(name)
    for id in ("a", "b", "c"):
        async with place.runtime.attach(name) as stream:
            assert await call(stream, id, f"call {id}") == f"call {id}"
    await place.runtime.aclose()
    next_agent = a_runtime(place.settings)
    await next_agent.open()
    async with next_agent.attach(name) as stream:
        assert await call(stream, "d", "still here") == "still here"
    assert await next_agent.look_at(name) == before
    await next_agent.aclose()


async def test_stderr_is_in_the_log_and_not_in_the_stream(place: Place, tiny_image: str) -> None:
    noisy = "import sys\nfor line in sys.stdin:\n print('noise', file=sys.stderr, flush=True); print(line, end='', flush=True)"  # noqa: E501
    name = await place.up(
        ask(image=tiny_image, transport="stdio", port=0, path="", command=("python3", "-c", noisy))
    )
    async with place.runtime.attach(name) as stream:
        await stream.send(b"protocol\n")
        with anyio.fail_after(10):
            assert b"noise" not in await until(stream, b"protocol\n")
    assert await place.first_line(name) == "noise"


async def test_the_end_of_the_server_is_the_end_of_the_stream(place: Place, tiny_image: str) -> None:
    name = await place.up(stdio(tiny_image))
    async with place.runtime.attach(name) as stream:
        await place.runtime.stop(name, 0)
        with anyio.fail_after(10):
            await until(stream, b"")
    with pytest.raises(Unreachable):
        async with place.runtime.attach(name):
            pass


async def test_nobody_attaches_to_a_stranger(place: Place, tiny_image: str) -> None:
    stranger = place.engine.containers.run(tiny_image, detach=True)
    try:
        assert stranger.name is not None
        with pytest.raises(NotFound):
            async with place.runtime.attach(stranger.name):
                pass
        with pytest.raises(NotFound):
            await anext(place.runtime.logs(stranger.name, tail=1, follow=False))
    finally:
        stranger.remove(force=True)


async def test_a_log_is_followed_and_left(place: Place, tiny_image: str) -> None:
    talks = "import itertools, time\nfor n in itertools.count(): print(n, flush=True); time.sleep(0.01)"
    name = await place.up(ask(image=tiny_image, command=("python3", "-c", talks)))
    async with aclosing(place.runtime.logs(name, tail=0, follow=True)) as lines:
        first = [int(await anext(lines)) for _ in range(20)]
    assert first == list(range(first[0], first[0] + 20))
    last = [line async for line in place.runtime.logs(name, tail=5, follow=False)]
    assert len(last) == 5
