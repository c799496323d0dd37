"""A node is trusted by its certificate, and a stranger gets not one byte."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from toolkeeper.clock import SystemClock
from toolkeeper.dtma.client import NodeClient, Trust
from toolkeeper.errors import Invalid, Unreachable
from toolkeeper.node.certificate import ensure_certificate, fingerprint_of

pytestmark = pytest.mark.anyio
WRONG = f"sha256:{'0' * 64}"


class Eavesdropper:
    """A TLS server that keeps what it hears, and answers everything with an empty state."""

    def __init__(self) -> None:
        self.heard = b""
        self.endpoint = ""
        self.fingerprint = ""
        self.pem = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65536):
            self.heard += chunk
            body = b'{"revision": "a:1", "runtime": "docker"}'
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Eavesdropper]:
    certificate, key = ensure_certificate(tmp_path, [], SystemClock().now())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    eavesdropper = Eavesdropper()
    eavesdropper.fingerprint = fingerprint_of(certificate)
    eavesdropper.pem = certificate.read_text()
    listening = await asyncio.start_server(eavesdropper.serve, "127.0.0.1", 0, ssl=context)
    eavesdropper.endpoint = f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    async with listening:
        yield eavesdropper


@asynccontextmanager
async def client(server: Eavesdropper, trust: Trust) -> AsyncIterator[NodeClient]:
    node = NodeClient(server.endpoint, token="a secret of ours, long enough", trust=trust)
    yield node
    await node.aclose()


async def test_the_pinned_certificate_is_trusted_whatever_its_name(server: Eavesdropper) -> None:
    async with client(server, Trust(fingerprints=(server.fingerprint,))) as node:
        assert (await node.state("test")).revision == "a:1"


async def test_who_mixes_up_http_and_https_is_told(server: Eavesdropper) -> None:
    server.endpoint = server.endpoint.replace("https:", "http:")
    async with client(server, Trust()) as node:
        with pytest.raises(Unreachable, match="its endpoint is https://"):
            await node.state("test")
    plain = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.endpoint = f"https://127.0.0.1:{plain.sockets[0].getsockname()[1]}"
    async with plain, client(server, Trust(fingerprints=(server.fingerprint,))) as node:
        with pytest.raises(Unreachable, match="answers without TLS"):
            await node.state("test")


async def test_one_of_several_fingerprints_is_enough(server: Eavesdropper) -> None:
    async with client(server, Trust(fingerprints=(WRONG, server.fingerprint))) as node:
        assert (await node.state("test")).revision == "a:1"


async def test_a_stranger_gets_not_one_byte(server: Eavesdropper) -> None:
    async with client(server, Trust(fingerprints=(WRONG,))) as node:
        with pytest.raises(Unreachable) as caught:
            await node.state("test")
    assert caught.value.reason == "CertificateMismatch"
    assert server.fingerprint in str(caught.value)
    assert server.heard == b""


async def test_an_authority_is_trusted_for_the_names_it_vouches_for(server: Eavesdropper) -> None:
    async with client(server, Trust(ca=server.pem)) as node:
        assert (await node.state("test")).revision == "a:1"


async def test_an_authority_and_a_fingerprint_must_both_hold(server: Eavesdropper) -> None:
    async with client(server, Trust(ca=server.pem, fingerprints=(WRONG,))) as node:
        with pytest.raises(Unreachable, match="not pinned"):
            await node.state("test")
    assert server.heard == b""


async def test_without_either_the_machines_authorities_decide(server: Eavesdropper) -> None:
    async with client(server, Trust()) as node:
        with pytest.raises(Unreachable) as caught:
            await node.state("test")
    assert caught.value.reason == "CertificateMismatch"
    assert server.heard == b""


def test_an_unreadable_authority_is_named() -> None:
    with pytest.raises(Invalid, match="authority"):
        NodeClient("https://127.0.0.1:1", trust=Trust(ca="-----BEGIN NONSENSE-----"))
