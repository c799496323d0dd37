"""Gathering the world of one toolbox: the servers that concern it, each rendered once per change, and what was seen."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from toolkeeper.clock import Clock
from toolkeeper.planning.desired import Rendered, probe_use, secret_uses
from toolkeeper.planning.instance import SecretUse
from toolkeeper.planning.observed import Snapshot
from toolkeeper.planning.proving import ASKS, PROBE_CREDENTIALS
from toolkeeper.planning.world import Policy, Wanted, World
from toolkeeper.reconcile.homes import Home, Homes
from toolkeeper.reconcile.inventory import Inventory
from toolkeeper.reconcile.keyring import UNREAD, Keyring, Use, Versions
from toolkeeper.reconcile.observe import NEVER_SEEN
from toolkeeper.reconcile.planner import Broken, Render
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.meta import RESTARTED_AT, Key
from toolkeeper.resources.toolbox import Toolbox

FIRST_WORD_SECONDS = 30.0
"""Longer than a toolbox takes to answer, or to be found silent."""


@dataclass(frozen=True, slots=True)
class _Cached:
    token: tuple[object, ...]
    rendered: Rendered


@dataclass(slots=True, kw_only=True)
class Gathering:
    """What worlds are made of. Rendered specs are cached by everything that they depend on."""

    inventory: Inventory
    homes: Homes
    keyring: Keyring
    render: Render
    policy: Policy
    clock: Clock
    _uses: dict[Key, tuple[tuple[object, ...], tuple[Use, ...]]] = field(default_factory=dict)
    _cache: dict[tuple[Key, frozenset[str]], _Cached] = field(default_factory=dict)

    async def ready(self, key: Key, home: Home) -> bool:
        """Whether there is something new enough to decide on. All waiting for a decision is done here."""
        if not home.watch.settled or self._is_unasked(key, home):
            return False
        for server in self._servers(key):
            uses = self.uses(server)
            if uses:
                await self.keyring.read(server.metadata.namespace, uses)
        known = self.homes.get(key) is home and key in self.inventory.toolboxes
        return known and home.watch.settled

    def _is_unasked(self, key: Key, home: Home) -> bool:
        """Whether its first answer, or silence, is still to come, and all that is said of it stands until then.

        Else each new leader would call every server unknown for a moment.
        """
        if home.watch.observation is not NEVER_SEEN:
            return False
        toolbox, waited = self.inventory.toolboxes.get(key), self.clock.monotonic() - home.watch.observed_at
        return toolbox is not None and bool(toolbox.status.conditions) and waited < FIRST_WORD_SECONDS

    def gather(self, toolbox: Toolbox, home: Home) -> tuple[World, list[Broken]]:
        """The world as it is known at this moment, and the servers that cannot be rendered."""
        observation = home.watch.observation
        features = frozenset(observation.features) if isinstance(observation, Snapshot) else frozenset[str]()
        probes = PROBE_CREDENTIALS in (features or toolbox.status.features)
        servers: list[Wanted] = []
        broken: list[Broken] = []
        for server in self._servers(toolbox.key):
            try:
                rendered, versions = self._rendered(server, features)
            except Exception as error:  # noqa: BLE001 - one broken resource must not stop the others
                broken.append((server.key, error))
                continue
            probe, now = _probe(server, versions) if probes else None, self.clock.monotonic()
            seen = wanted(
                server,
                rendered,
                versions,
                toolbox=toolbox.key,
                homes=self.homes,
                refused=home.refused(server.key, "create", rendered.hash, now),
                probe=probe,
            )
            if probe is not None:
                not_taken = home.refused(server.key, "give-credential", probe.version, now)
                seen = replace(seen, probe_not_taken=not_taken)
            if (hindrance := home.repeats.hindrance(server.key)) is not None:
                seen = replace(seen, hindrance=hindrance)
            servers.append(seen)
        world = World(
            toolbox=toolbox,
            servers=tuple(servers),
            observation=observation,
            policy=self.policy,
            now=self.clock.now(),
            clock=self.clock.monotonic(),
            complete=self.inventory.complete and not broken,
            orphans=home.orphans,
        )
        return world, broken

    def uses(self, server: MCPServer) -> tuple[Use, ...]:
        """The secrets that concern it: those of its container, and that of its probes."""
        token = _spec_token(server)
        known = self._uses.get(server.key)
        if known is None or known[0] != token:
            probe = probe_use(server.spec)
            uses = {*secret_uses(server.spec), *(() if probe is None else (probe,))}
            known = self._uses[server.key] = (token, tuple(sorted(uses)))
        return known[1]

    def forget(self, server: Key) -> None:
        """The server is gone."""
        self._uses.pop(server, None)
        for each in [each for each in self._cache if each[0] == server]:
            del self._cache[each]

    def _servers(self, toolbox: Key) -> list[MCPServer]:
        found = (self.inventory.servers.get(key) for key in self.homes.servers_of(toolbox))
        return [each for each in found if each is not None and not _is_let_go(each)]

    def _rendered(self, server: MCPServer, features: frozenset[str]) -> tuple[Rendered, Versions]:
        versions = self.keyring.versions(server.metadata.namespace, self.uses(server))
        token = (*_spec_token(server), tuple(sorted(versions.digests.items())))
        cached = self._cache.get((server.key, features))
        if cached is None or cached.token != token:
            rendered = self.render(
                server,
                installation=self.policy.installation,
                secrets=versions.digests,
                node_features=features,
            )
            cached = self._cache[server.key, features] = _Cached(token, rendered)
        return cached.rendered, versions


def _spec_token(server: MCPServer) -> tuple[object, ...]:
    meta = server.metadata
    return meta.uid, meta.generation, meta.annotations.get(RESTARTED_AT, "")


def _is_let_go(server: MCPServer) -> bool:
    """Deleted, and only others still hold it: it is none of our business any more."""
    return server.metadata.deletion_timestamp is not None and not server.metadata.held


def _probe(server: MCPServer, versions: Versions) -> SecretUse | None:
    use = probe_use(server.spec)
    return None if use is None else SecretUse(*use, versions.digests.get("/".join(use), ""))


def wanted(
    server: MCPServer,
    rendered: Rendered,
    versions: Versions,
    *,
    toolbox: Key,
    homes: Homes,
    refused: tuple[str, str] | None = None,
    probe: SecretUse | None = None,
) -> Wanted:
    """The server as this toolbox should see it."""
    placement = homes.placement(server.key)
    home = None if placement is None else placement.toolbox
    missing = list(rendered.missing_secrets)
    if probe is not None and not probe.version:
        missing.append(f"{probe.name}/{probe.key}")
    problems = {each: versions.problems.get(each, UNREAD) for each in missing}
    moved = home is not None and home != toolbox
    twin = home is not None and moved and homes.is_twin(home)
    return Wanted(
        server=server,
        instance=rendered.instance,
        hash=rendered.hash,
        hashes=rendered.hashes,
        instances=rendered.instances,
        missing_secrets=tuple(f"{name}: {problem.message}" for name, problem in problems.items()),
        missing_reason=next((problem.reason for problem in problems.values()), "SecretMissing"),
        refused=rendered.refused or refused,
        probe=probe,
        assigned=home == toolbox,
        ready_elsewhere=home is not None
        and moved
        and not twin
        and _ready(server, rendered, homes.last_seen(home)),
        same_host=twin,
        elsewhere=homes.may_live_elsewhere(server, toolbox),
    )


def _ready(server: MCPServer, rendered: Rendered, there: Snapshot | None) -> bool:
    if there is None:
        return False
    to_prove = probe_use(server.spec) is not None and PROBE_CREDENTIALS in there.features
    return any(
        each.state == "running"
        and each.handshake is not None
        and each.handshake.ok
        and not (to_prove and each.handshake.reason in ASKS)
        and each.hash == rendered.hashes.get(each.renderer)
        for each in there.containers
        if (each.namespace, each.server) == (server.metadata.namespace, server.metadata.name)
    )
