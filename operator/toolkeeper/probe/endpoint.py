"""Probing a server at a URL: streamable HTTP, or the older pair of SSE and POST."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Literal

import httpx2

from toolkeeper.planning.observed import Handshake
from toolkeeper.probe.authorization import authorization
from toolkeeper.probe.conversation import Era, Transport, converse
from toolkeeper.probe.evidence import Answer, Evidence, Violation
from toolkeeper.probe.outcome import ProbeOutcome
from toolkeeper.probe.sdk import sse_client, streamable_http_client

CONNECT_SECONDS = 2.0
_NAMES_HOST = re.compile(rb"\b(host|origin)\b|only allowed at", re.IGNORECASE)
_MOST_ERROR_BODY = 64 * 1024


def make_client(context: ssl.SSLContext | None = None) -> httpx2.AsyncClient:
    """The connection pool that all probes of one process share; the caller closes it.

    Building a TLS context takes longer than a probe, hence once. Connections outlive a probe only briefly, so that
    none is reused that a server has meanwhile given up. Proxies of the environment are not asked: servers are local.
    """
    return httpx2.AsyncClient(
        verify=context or ssl.create_default_context(),
        timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS),
        limits=httpx2.Limits(max_connections=256, max_keepalive_connections=32, keepalive_expiry=1.0),
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        trust_env=False,
    )


async def probe_http(
    url: str,
    *,
    transport: Literal["streamable-http", "sse"],
    client: httpx2.AsyncClient,
    timeout: float,  # noqa: ASYNC109 - the wall clock is part of the promise
    host_header: str | None = None,
    credential: str | None = None,
    era: Era = "",
) -> ProbeOutcome:
    """One handshake and the complete list of tools from the server at `url`, within `timeout` seconds.

    `era` is the last one seen since the server started, if any: it saves asking a legacy server in vain. Never
    raises for a bad server. Redirects are followed on the same origin only, so a `credential` is shown at
    the server's own address and nowhere else.
    """
    evidence = Evidence()
    headers = {"user-agent": "toolkeeper-probe", "accept-encoding": "identity"}
    if credential is not None:
        shown = authorization(credential)
        evidence.credential = "unusable" if shown is None else "shown"
        headers |= {} if shown is None else {"authorization": shown}
    if host_header:
        headers["host"] = host_header
    try:
        target = httpx2.URL(url)
        own = httpx2.AsyncClient(
            transport=_Wire(client, evidence, transport, target),
            headers=headers,
            timeout=client.timeout,
            trust_env=False,
        )
    except (httpx2.InvalidURL, ValueError, TypeError):
        return ProbeOutcome(
            Handshake(ok=False, reason="HttpError", message="not a usable URL or header value")
        )
    if transport == "sse":
        streams: Transport = sse_client(
            str(target), httpx_client_factory=lambda headers=None, timeout=None, auth=None: own
        )
    else:
        streams = streamable_http_client(str(target), http_client=own, max_sse_event_size=None)
    return await converse(streams, evidence, seconds=timeout, discover_seconds=timeout / 2, era=era)


class _Wire(httpx2.AsyncBaseTransport):
    """One probe's way through the shared client: counts bytes and keeps the answers that the SDK's errors forget.

    It does not open the stream that a legacy server offers for its own messages: a probe has no use for them, and
    the server is spared a connection.
    """

    def __init__(
        self, client: httpx2.AsyncClient, evidence: Evidence, transport: str, target: httpx2.URL
    ) -> None:
        self._origin = _origin(target)
        self._client = client
        self._evidence = evidence
        self._transport = transport

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET" and self._transport != "sse" and "last-event-id" not in request.headers:
            return httpx2.Response(405)
        if "authorization" in request.headers and _origin(request.url) != self._origin:
            raise Violation("the server leads to another address, where no credential of it is shown")
        matters = request.method == "POST" or self._transport == "sse"
        if matters:
            self._evidence.last = None
        response = await self._sent(request)
        body: httpx2.AsyncByteStream = _Counted(response, self._evidence)
        content = b""
        if response.status_code >= 400:
            try:
                content = b"".join([chunk async for chunk in _head(body)])
            finally:
                await response.aclose()
            body = httpx2.ByteStream(content)
        if matters:
            self._evidence.last = _answer(response, content)
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            raise Violation("the answer is compressed although no compression was asked for")
        return httpx2.Response(
            response.status_code, headers=response.headers, stream=body, extensions=response.extensions
        )

    async def _sent(self, request: httpx2.Request) -> httpx2.Response:
        """The head of the answer.

        A server may end a connection that was kept open just as it is used again (the SDK's does after refusing a Host
        on the sse transport). That says nothing about the server, and all that a probe sends can be sent twice: so the
        request is sent again until a connection was opened for it.
        """
        opened: list[str] = []

        async def note(event: str, _: Mapping[str, Any]) -> None:
            if event == "connection.connect_tcp.started":
                opened.append(event)

        request.extensions = {**request.extensions, "trace": note}
        while True:
            try:
                return await self._client.send(request, stream=True, follow_redirects=False)
            except (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError):
                if opened:
                    raise


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


class _Counted(httpx2.AsyncByteStream):
    """A response's body, as long as the probe's budget lasts."""

    def __init__(self, response: httpx2.Response, evidence: Evidence) -> None:
        self._response = response
        self._evidence = evidence

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._response.aiter_raw():
            self._evidence.take(len(chunk))
            yield chunk

    async def aclose(self) -> None:
        await self._response.aclose()


async def _head(body: httpx2.AsyncByteStream) -> AsyncIterator[bytes]:
    size = 0
    async for chunk in body:
        yield chunk
        size += len(chunk)
        if size > _MOST_ERROR_BODY:
            return


def _answer(response: httpx2.Response, content: bytes) -> Answer:
    location = response.next_request.url if response.next_request else None
    return Answer(
        status=response.status_code,
        content_type=response.headers.get("content-type", "").partition(";")[0].strip().lower()[:64],
        path=response.request.url.path[:128],
        challenged=bool(response.headers.get("www-authenticate", "").strip()),
        rpc_error=_is_rpc_error(content),
        names_host=bool(_NAMES_HOST.search(content)),
        location=str(location.copy_with(userinfo=b"", query=None, fragment=None)) if location else "",
    )


def _is_rpc_error(content: bytes) -> bool:
    try:
        body: Any = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(body, dict) and body.get("jsonrpc") == "2.0" and isinstance(body.get("error"), dict)
