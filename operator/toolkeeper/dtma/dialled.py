"""A client that reads its credentials at the first call, and again when they were refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from toolkeeper.dtma.client import NodeClient, Trust
from toolkeeper.errors import NotFound, Refused, Unreachable
from toolkeeper.planning.observed import UNASKED, Snapshot
from toolkeeper.reconcile.ports import Claim, InstanceRequest, ProbeCredential, Secret
from toolkeeper.resources.mcpserver import SecretKeyRef
from toolkeeper.resources.toolbox import Toolbox

Secrets = Callable[[str, str], Awaitable[Secret]]
"""`Store.secret`: namespace, name."""
Answer = TypeVar("Answer")


class Dialled:
    """One toolbox, spoken to with the token and the trust that its manifest refers to. Fits `ToolboxClient`.

    Secrets are read when they are needed: a token that is rotated in the store is found by the first refusal.
    """

    def __init__(self, toolbox: Toolbox, secrets: Secrets) -> None:
        self._toolbox, self._secrets = toolbox, secrets
        self._client: NodeClient | None = None

    async def node(self) -> NodeClient:
        """The connected client. Raises Unreachable when a secret is not to be had; then the toolbox was not asked."""
        if self._client is None:
            spec = self._toolbox.spec
            token = await self._value(spec.token_ref)
            trust = Trust(ca=await self._value(spec.tls.ca_ref), fingerprints=spec.tls.fingerprints)
            self._client = NodeClient(spec.endpoint, token=token, trust=trust)
        return self._client

    async def state(self, installation: str, *, since: str = "", wait: float = 0.0) -> Snapshot:
        return await self._said(lambda node: node.state(installation, since=since, wait=wait))

    async def claim(self, installation: str, expected_epoch: int) -> Claim:
        return await self._said(lambda node: node.claim(installation, expected_epoch))

    async def create(self, claim: Claim, container: str, request: InstanceRequest) -> None:
        await self._said(lambda node: node.create(claim, container, request))

    async def start(self, claim: Claim, container: str) -> None:
        await self._said(lambda node: node.start(claim, container))

    async def stop(self, claim: Claim, container: str, *, drain: int) -> None:
        await self._said(lambda node: node.stop(claim, container, drain=drain))

    async def restart(self, claim: Claim, container: str, *, run_id: str) -> None:
        await self._said(lambda node: node.restart(claim, container, run_id=run_id))

    async def remove(self, claim: Claim, container: str, *, container_id: str, drain: int) -> None:
        await self._said(lambda node: node.remove(claim, container, container_id=container_id, drain=drain))

    async def remove_volume(self, claim: Claim, volume: str) -> None:
        await self._said(lambda node: node.remove_volume(claim, volume))

    async def give_credential(
        self, claim: Claim, container: str, credential: ProbeCredential, *, container_id: str
    ) -> None:
        await self._said(
            lambda node: node.give_credential(claim, container, credential, container_id=container_id)
        )

    async def take_credential(self, claim: Claim, container: str, *, container_id: str) -> None:
        await self._said(lambda node: node.take_credential(claim, container, container_id=container_id))

    async def logs(self, container: str, *, tail: int, follow: bool) -> AsyncIterator[str]:
        async for line in (await self.node()).logs(container, tail=tail, follow=follow):
            yield line

    async def aclose(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _said(self, call: Callable[[NodeClient], Awaitable[Answer]]) -> Answer:
        try:
            return await call(await self.node())
        except Unreachable as exc:
            if exc.reason == "AuthenticationFailed":
                await self.aclose()  # the next call reads the token anew
            raise

    async def _value(self, ref: SecretKeyRef | None) -> str:
        if ref is None:
            return ""
        namespace = self._toolbox.metadata.namespace
        try:
            secret = await self._secrets(namespace, ref.name)
        except NotFound as exc:
            raise Unreachable(str(exc), reason="SecretMissing") from exc
        except Refused as exc:
            raise Unreachable(
                str(exc), reason=exc.reason if exc.reason in UNASKED else "SecretRefused"
            ) from exc
        value = secret.values.get(ref.key)
        if value is None:
            raise Unreachable(
                f"the secret {namespace}/{ref.name} has no key {ref.key}", reason="SecretMissing"
            )
        return value.strip()
