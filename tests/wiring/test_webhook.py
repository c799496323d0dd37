"""The bell: who may ring it, and that ringing is all that anybody can do with it."""

from __future__ import annotations

import hashlib
import hmac
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx
import pytest

from toolkeeper.clock import SystemClock
from toolkeeper.errors import Invalid, Refused
from toolkeeper.wiring.port import answering
from toolkeeper.wiring.webhook import LARGEST, rightful, webhook

pytestmark = pytest.mark.anyio
SECRET = "s3cret of the bell"
BODY = b'{"ref": "refs/heads/main", "repository": {"clone_url": "https://evil.example/x.git"}}'


def signed(body: bytes, secret: str = SECRET) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


@dataclass
class Bell:
    """A webhook that listens, and what it did."""

    port: int = 0
    secret: str | None = SECRET
    rung: int = 0
    told: list[str] = field(default_factory=list)

    def read(self) -> str:
        if self.secret is None:
            raise Refused("--webhook-secret file:/x: No such file")
        return self.secret

    def ring(self) -> None:
        self.rung += 1

    async def post(
        self, headers: dict[str, str], body: bytes = BODY, path: str = "/webhook", method: str = "POST"
    ) -> int:
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            url = f"http://127.0.0.1:{self.port}{path}"
            return (await client.request(method, url, content=body, headers=headers)).status_code


@pytest.fixture
async def bell() -> AsyncIterator[Bell]:
    made = Bell()
    app = webhook(made.read, made.ring, made.told.append, SystemClock())
    async with answering("127.0.0.1:0", app, option="--webhook-address") as port:
        made.port = port
        yield made


async def test_a_body_signed_as_github_does_rings(bell: Bell) -> None:
    assert await bell.post({"X-Hub-Signature-256": signed(BODY)}) == 202
    assert (bell.rung, bell.told) == (1, ["accepted"])


async def test_the_token_that_gitlab_sends_rings(bell: Bell) -> None:
    assert await bell.post({"X-Gitlab-Token": SECRET}) == 202
    assert bell.rung == 1


async def test_a_body_signed_as_bitbucket_does_rings(bell: Bell) -> None:
    assert await bell.post({"X-Hub-Signature": signed(BODY)}) == 202
    assert bell.rung == 1


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Hub-Signature-256": ""},
        {"X-Hub-Signature-256": signed(BODY, "another secret")},
        {"X-Hub-Signature-256": signed(b"another body")},
        {"X-Hub-Signature-256": signed(BODY).removeprefix("sha256=")},
        {"X-Hub-Signature-256": signed(BODY).upper()},
        {"X-Hub-Signature-256": "sha256="},
        {"X-Hub-Signature": "sha1=" + hmac.new(SECRET.encode(), BODY, hashlib.sha1).hexdigest()},
        {"X-Gitlab-Token": "another secret"},
        {"X-Gitlab-Token": SECRET + "x"},
        {"X-Gitlab-Token": ""},
        {"X-Hub-Signature-256": "sha256=wrong", "X-Gitlab-Token": SECRET},
        {"X-Hub-Signature-256": "sha256=wrong", "X-Hub-Signature": signed(BODY)},
        {"X-Hub-Signature": signed(BODY, "another secret")},
        {"Authorization": f"Bearer {SECRET}"},
    ],
)
async def test_whoever_does_not_prove_to_know_the_secret_rings_nothing(
    bell: Bell, headers: dict[str, str]
) -> None:
    assert await bell.post(headers) == 401
    assert (bell.rung, bell.told) == (0, ["refused"])


def test_headers_of_any_bytes_are_wrong_and_nothing_more() -> None:
    for header in ("HTTP_X_HUB_SIGNATURE_256", "HTTP_X_GITLAB_TOKEN"):
        assert not rightful({header: "sha256=\xff\u20ac"}, BODY, SECRET)


async def test_only_a_post_to_the_one_path_is_listened_to(bell: Bell) -> None:
    signature = {"X-Hub-Signature-256": signed(b"")}
    assert await bell.post(signature, b"", "/") == 404
    assert await bell.post(signature, b"", "/metrics") == 404
    for method in ("GET", "PUT", "DELETE"):
        assert await bell.post(signature, b"", method=method) == 405
    assert bell.rung == 0


async def test_a_body_without_an_end_is_not_read(bell: Bell) -> None:
    with socket.create_connection(("127.0.0.1", bell.port), timeout=5) as caller:
        caller.sendall(f"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: {LARGEST + 1}\r\n\r\n".encode())
        assert b"413" in caller.recv(1024)
    async with httpx.AsyncClient(trust_env=False, verify=False) as client:

        async def chunks() -> AsyncIterator[bytes]:
            yield BODY

        url = f"http://127.0.0.1:{bell.port}/webhook"
        answer = await client.post(url, content=chunks(), headers={"X-Gitlab-Token": SECRET})
    assert answer.status_code == 411
    assert bell.rung == 0


async def test_a_body_that_breaks_off_rings_nothing(bell: Bell) -> None:
    with socket.create_connection(("127.0.0.1", bell.port), timeout=5) as caller:
        head = f"POST /webhook HTTP/1.1\r\nHost: x\r\nX-Gitlab-Token: {SECRET}\r\nContent-Length: 100\r\n\r\n"
        caller.sendall(head.encode() + b"half")
        caller.shutdown(socket.SHUT_WR)
        assert b"408" in caller.recv(1024)
    assert bell.rung == 0


async def test_a_secret_that_cannot_be_read_lets_nobody_in_until_it_can(bell: Bell) -> None:
    bell.secret = None
    assert await bell.post({"X-Gitlab-Token": SECRET}) == 503
    assert (bell.rung, bell.told) == (0, ["failed"])
    bell.secret = "rotated"
    assert await bell.post({"X-Gitlab-Token": SECRET}) == 401
    assert await bell.post({"X-Gitlab-Token": "rotated"}) == 202


async def test_an_address_that_cannot_be_had_names_the_option() -> None:
    app = webhook(lambda: SECRET, lambda: None, lambda outcome: None, SystemClock())
    with pytest.raises(Invalid, match="--webhook-address nowhere"):
        async with answering("nowhere", app, option="--webhook-address"):
            pass
