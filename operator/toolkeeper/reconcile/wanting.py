"""Gathering what one toolbox should have: which servers it concerns, and each rendered once per change."""

from __future__ import annotations

from dataclasses import dataclass

from toolkeeper.planning.desired import Rendered, secret_uses
from toolkeeper.planning.observed import Snapshot
from toolkeeper.planning.world import Wanted
from toolkeeper.reconcile.homes import Homes
from toolkeeper.reconcile.keyring import Keyring, Use, Versions
from toolkeeper.reconcile.planner import Render
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.meta import RESTARTED_AT, Key


@dataclass(frozen=True, slots=True)
class _Cached:
    token: tuple[object, ...]
    rendered: Rendered


class Renderings:
    """Rendered specs, cached by everything that they depend on."""

    def __init__(self, render: Render, keyring: Keyring, installation: str) -> None:
        self._render, self._keyring, self._installation = render, keyring, installation
        self._uses: dict[Key, tuple[tuple[object, ...], tuple[Use, ...]]] = {}
        self._cache: dict[tuple[Key, frozenset[str]], _Cached] = {}

    async def prepare(self, server: MCPServer) -> None:
        """Read the secrets that were never read."""
        uses = self.uses(server)
        if uses:
            await self._keyring.read(server.metadata.namespace, uses)

    def rendered(self, server: MCPServer, features: frozenset[str]) -> tuple[Rendered, Versions]:
        """The container wanted on a host with these features, under the secrets as far as they are known."""
        versions = self._keyring.versions(server.metadata.namespace, self.uses(server))
        token = (*_spec_token(server), tuple(sorted(versions.digests.items())))
        cached = self._cache.get((server.key, features))
        if cached is None or cached.token != token:
            rendered = self._render(
                server, installation=self._installation, secrets=versions.digests, node_features=features
            )
            cached = self._cache[server.key, features] = _Cached(token, rendered)
        return cached.rendered, versions

    def uses(self, server: MCPServer) -> tuple[Use, ...]:
        """The secrets that it needs."""
        token = _spec_token(server)
        known = self._uses.get(server.key)
        if known is None or known[0] != token:
            known = self._uses[server.key] = (token, secret_uses(server.spec))
        return known[1]

    def forget(self, server: Key) -> None:
        """It is gone."""
        self._uses.pop(server, None)
        for each in [each for each in self._cache if each[0] == server]:
            del self._cache[each]


def _spec_token(server: MCPServer) -> tuple[object, ...]:
    meta = server.metadata
    return meta.uid, meta.generation, meta.annotations.get(RESTARTED_AT, "")


def wanted(
    server: MCPServer,
    rendered: Rendered,
    versions: Versions,
    *,
    toolbox: Key,
    homes: Homes,
    refused: tuple[str, str] | None = None,
) -> Wanted:
    """The server as this toolbox should see it."""
    placement = homes.placement(server.key)
    home = None if placement is None else placement.toolbox
    missing = tuple(f"{each}: {versions.problems.get(each, 'unknown')}" for each in rendered.missing_secrets)
    moved = home is not None and home != toolbox
    return Wanted(
        server=server,
        instance=rendered.instance,
        hash=rendered.hash,
        hashes=rendered.hashes,
        instances=rendered.instances,
        missing_secrets=missing,
        refused=rendered.refused or refused,
        assigned=home == toolbox,
        ready_elsewhere=home is not None and moved and _ready(server, rendered, homes.last_seen(home)),
        elsewhere=homes.may_live_elsewhere(server, toolbox),
    )


def _ready(server: MCPServer, rendered: Rendered, there: Snapshot | None) -> bool:
    if there is None:
        return False
    return any(
        each.state == "running"
        and each.handshake is not None
        and each.handshake.ok
        and each.hash == rendered.hashes.get(each.renderer)
        for each in there.containers
        if (each.namespace, each.server) == (server.metadata.namespace, server.metadata.name)
    )
