"""The client of our own node agent: `reconcile.ports.ToolboxClient` over HTTP."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter

from toolkeeper.dtma.answers import decoded, meaning, translated
from toolkeeper.dtma.pinning import pinned, trusting
from toolkeeper.dtma.wire import (
    CREATE,
    CREDENTIAL,
    EPOCH_HEADER,
    INSTALLATION_HEADER,
    LOG_LINE_LIMIT,
    RESPONSE_LIMIT,
    SNAPSHOT,
    ClaimBody,
    ClaimGranted,
    NodeInfo,
    ToolDefinitions,
    UsageList,
)
from toolkeeper.errors import Invalid, NotFound, Unreachable
from toolkeeper.planning.observed import Snapshot
from toolkeeper.reconcile.ports import Claim, InstanceRequest, ProbeCredential

T = TypeVar("T")

_GRANTED = TypeAdapter(ClaimGranted)
_INFO = TypeAdapter(NodeInfo)
_USAGE = TypeAdapter(UsageList)
_TOOLS = TypeAdapter(ToolDefinitions)


@dataclass(frozen=True, slots=True)
class Budget:
    """What one toolbox may cost: connections, and seconds per operation."""

    connections: int = 8
    connect: float = 5.0
    answer: float = 15.0
    """For anything but a long poll, which has its own `wait` on top. Writes are accepted at once, so this is ample."""


@dataclass(frozen=True, slots=True)
class Trust:
    """How the node proves who it is: an authority (PEM), fingerprints, or both. Neither: the machine's authorities."""

    ca: str = ""
    fingerprints: tuple[str, ...] = ()

    def context(self) -> ssl.SSLContext:
        """The TLS context that accepts that node only. Raises Invalid when `ca` is not PEM."""
        try:
            return pinned(self.fingerprints, ca=self.ca) if self.fingerprints else trusting(ca=self.ca)
        except ssl.SSLError as exc:
            raise Invalid(f"the certificate authority of the toolbox cannot be read: {exc}") from exc


class NodeClient:
    """One node agent. Holds a few connections; `aclose` gives them back.

    `endpoint` is http://, https:// or unix:///path/of/socket. Raises what `ToolboxClient` promises.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        token: str = "",
        trust: Trust | None = None,
        budget: Budget | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        if not token.isascii() or not token.isprintable():
            raise Invalid("the token of the toolbox has characters that no header can carry")
        self.endpoint = endpoint.rstrip("/")
        self._budget = budget or Budget()
        unix = self.endpoint.startswith("unix://")
        self._http = httpx.AsyncClient(
            base_url="http://node" if unix else self.endpoint,
            # No compression: the size of an answer is bounded as it arrives, and nothing may swell behind that.
            headers={"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {token}"} if token else {}),
            timeout=httpx.Timeout(
                self._budget.answer, connect=self._budget.connect, pool=self._budget.answer
            ),
            transport=transport or _transport(self.endpoint, trust or Trust(), self._budget),
            trust_env=False,
        )

    async def info(self) -> NodeInfo:
        """What the node is and can do."""
        return decoded(_INFO, await self._call("GET", "/v1/info"))

    async def state(self, installation: str, *, since: str = "", wait: float = 0.0) -> Snapshot:
        query = {"installation": installation, "since": since, "wait": f"{wait:g}"}
        return decoded(SNAPSHOT, await self._call("GET", "/v1/state", params=query, patience=wait))

    async def claim(self, installation: str, expected_epoch: int) -> Claim:
        body = ClaimBody(installation=installation, expected_epoch=expected_epoch).model_dump_json().encode()
        granted = decoded(_GRANTED, await self._call("POST", "/v1/claim", body=body))
        return Claim(installation, granted.epoch)

    async def create(self, claim: Claim, container: str, request: InstanceRequest) -> None:
        body = CREATE.dump_json(request)  # defaults included: the node's own may be older or newer
        await self._call("PUT", _instance(container), claim=claim, body=body)

    async def start(self, claim: Claim, container: str) -> None:
        await self._call("POST", f"{_instance(container)}/start", claim=claim)

    async def stop(self, claim: Claim, container: str, *, drain: int) -> None:
        await self._call("POST", f"{_instance(container)}/stop", claim=claim, params={"drain": str(drain)})

    async def restart(self, claim: Claim, container: str, *, run_id: str) -> None:
        await self._call("POST", f"{_instance(container)}/restart", claim=claim, params={"run_id": run_id})

    async def remove(self, claim: Claim, container: str, *, container_id: str, drain: int) -> None:
        query = {"container_id": container_id, "drain": str(drain)}
        await self._absent("DELETE", _instance(container), claim=claim, params=query)

    async def remove_volume(self, claim: Claim, volume: str) -> None:
        await self._absent("DELETE", f"/v1/volumes/{quote(volume, safe='')}", claim=claim)

    async def give_credential(
        self, claim: Claim, container: str, credential: ProbeCredential, *, container_id: str
    ) -> None:
        path, query = f"{_instance(container)}/probe-credential", {"container_id": container_id}
        await self._call("PUT", path, claim=claim, params=query, body=CREDENTIAL.dump_json(credential))

    async def take_credential(self, claim: Claim, container: str, *, container_id: str) -> None:
        path, query = f"{_instance(container)}/probe-credential", {"container_id": container_id}
        await self._absent("DELETE", path, claim=claim, params=query)

    async def tools(self, container: str) -> ToolDefinitions:
        """The tool definitions that the server listed last. Raises NotFound when it never did."""
        return decoded(_TOOLS, await self._call("GET", f"{_instance(container)}/tools"))

    async def usage(self, installation: str) -> UsageList:
        """What the running containers of the installation use now."""
        return decoded(_USAGE, await self._call("GET", "/v1/stats", params={"installation": installation}))

    async def logs(self, container: str, *, tail: int, follow: bool) -> AsyncIterator[str]:
        query = {"tail": str(tail), "follow": "true" if follow else "false"}
        patience = httpx.Timeout(self._budget.answer, read=None if follow else self._budget.answer)
        with translated(self.endpoint):
            url = f"{_instance(container)}/logs"
            async with self._http.stream("GET", url, params=query, timeout=patience) as response:
                if not response.is_success:
                    raise meaning(response.status_code, await _bounded(response))
                async for line in _lines(response):
                    yield line

    async def aclose(self) -> None:
        await self._http.aclose()

    async def _absent(
        self, method: str, path: str, *, claim: Claim, params: Mapping[str, str] | None = None
    ) -> None:
        try:
            await self._call(method, path, claim=claim, params=params)
        except NotFound:
            return

    async def _call(
        self,
        method: str,
        path: str,
        *,
        claim: Claim | None = None,
        params: Mapping[str, str] | None = None,
        body: bytes = b"",
        patience: float = 0.0,
    ) -> bytes:
        headers = {"Content-Type": "application/json"} if body else {}
        if claim is not None:
            headers |= {INSTALLATION_HEADER: claim.installation, EPOCH_HEADER: str(claim.epoch)}
        answer = self._budget.answer + patience
        with translated(self.endpoint):
            async with (
                asyncio.timeout(self._budget.connect + answer),
                self._http.stream(
                    method,
                    path,
                    params={key: value for key, value in (params or {}).items() if value},
                    headers=headers,
                    content=body or None,
                    timeout=httpx.Timeout(answer, connect=self._budget.connect),
                ) as response,
            ):
                content = await _bounded(response)
        if not response.is_success:
            raise meaning(response.status_code, content)
        return content


def _transport(endpoint: str, trust: Trust, budget: Budget) -> httpx.AsyncHTTPTransport:
    limits = httpx.Limits(max_connections=budget.connections, max_keepalive_connections=budget.connections)
    if endpoint.startswith("unix://"):
        return httpx.AsyncHTTPTransport(uds=endpoint.removeprefix("unix://"), limits=limits, trust_env=False)
    # A context is always given: httpx would build one from certifi otherwise, 60 ms for a plain endpoint.
    context = trust.context() if endpoint.startswith("https://") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return httpx.AsyncHTTPTransport(verify=context, limits=limits, trust_env=False)


def _instance(container: str) -> str:
    return f"/v1/instances/{quote(container, safe='')}"


async def _bounded(response: httpx.Response) -> bytes:
    if response.headers.get("content-encoding", "identity") != "identity":
        raise Unreachable("the node's answer is compressed, which nobody asked for")
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.aiter_bytes():
        size += len(chunk)
        if size > RESPONSE_LIMIT:
            raise Unreachable(f"the node's answer is longer than {RESPONSE_LIMIT} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


async def _lines(response: httpx.Response) -> AsyncIterator[str]:
    """Lines as they arrive; one that never ends is cut into pieces of `LOG_LINE_LIMIT`."""
    rest = b""
    async for chunk in response.aiter_bytes():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace")
        if len(rest) > LOG_LINE_LIMIT:
            yield rest.decode(errors="replace")
            rest = b""
    if rest:
        yield rest.decode(errors="replace")
