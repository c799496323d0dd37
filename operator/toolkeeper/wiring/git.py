"""Following a Git repository: the place that its first commit makes, and everything that runs beside the loop."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry

from toolkeeper.clock import SystemClock
from toolkeeper.errors import Invalid, ToolkeeperError
from toolkeeper.stores.directory import DirectoryStore
from toolkeeper.stores.git.access import Access, Reference
from toolkeeper.stores.git.address import Address
from toolkeeper.stores.git.cache import Cache
from toolkeeper.stores.git.program import Git
from toolkeeper.stores.git.puller import Puller
from toolkeeper.stores.installation import Installation, installation_of
from toolkeeper.telemetry.logs import Log
from toolkeeper.telemetry.metrics import GitMetrics
from toolkeeper.wiring.places import Place, git_cache, state_root
from toolkeeper.wiring.port import answering
from toolkeeper.wiring.webhook import PATH, webhook

SHORTEST_INTERVAL = 1.0
FIRST_SECONDS = 10.0
"""How long the start waits for a newer commit than the one that is here: a Git server that hangs stops nobody."""


@dataclass(frozen=True, slots=True)
class GitOptions:
    """What can be said about a repository on the command line."""

    access: Access
    installation: str | None = None
    """Wins over what the repository says."""
    interval: float = 60.0
    webhook_address: str | None = None
    webhook_secret: Reference | None = None

    @property
    def address(self) -> Address:
        """Of the folder of manifests."""
        return self.access.address

    def check(self) -> None:
        """Raises Invalid, Refused for what cannot work together."""
        self.access.check()
        if not SHORTEST_INTERVAL <= self.interval < math.inf:
            raise Invalid(f"--git-interval is at least {SHORTEST_INTERVAL:g} s")
        if (self.webhook_address is None) != (self.webhook_secret is None):
            raise Invalid("--webhook-address and --webhook-secret need each other: nobody else may ring")
        if self.webhook_secret is not None:
            self.webhook_secret.read("--webhook-secret")


async def first_pulled(options: GitOptions, state_dir: Path | None = None) -> Place:
    """The place whose manifests are the newest commit, or the last good one if that cannot be had now.

    Raises Invalid, Refused, Unreachable when there is neither: then nobody knows even the installation's name.
    """
    options.check()
    root = state_root(state_dir)
    cache = git_cache(root, options.address)
    before = _installation(cache.root, options).id if cache.commit else None
    try:
        async with asyncio.timeout(FIRST_SECONDS if cache.commit else None):
            await _puller(options, cache, before).pull()
    except TimeoutError:
        pass  # the next look comes as soon as the loop runs
    except ToolkeeperError as exc:
        if not cache.commit:
            raise type(exc)(f"{options.address}: {exc}") from exc
    found = _installation(cache.root, options)
    return Place("directory", cache.root, root, found.id, found.origin, git=options.address)


@asynccontextmanager
async def following(
    options: GitOptions, place: Place, store: DirectoryStore, log: Log, registry: CollectorRegistry
) -> AsyncIterator[None]:
    """Pull while the context lasts, at intervals and when the webhook is rung."""
    metrics = GitMetrics(registry)
    puller = _puller(options, git_cache(place.root, options.address), place.installation)
    if options.address.scheme == "http" and not options.address.local:
        log.warning(
            "whoever is between here and the Git server decides what runs: use https",
            source=str(options.address),
        )
    async with AsyncExitStack() as stack:
        if options.webhook_address is not None:
            app = webhook(_secret(options), _from_threads(puller.ring), _telling(metrics, log), SystemClock())
            port = await stack.enter_async_context(
                answering(options.webhook_address, app, option="--webhook-address")
            )
            log.info("webhook listens", port=port, path=PATH)
        pulling = asyncio.create_task(
            puller.follow(
                options.interval,
                rng=random.Random(),  # noqa: S311 – jitter, not cryptography
                log=log,
                metrics=metrics,
                switched=store.look,
            ),
            name="git source",
        )
        pulling.add_done_callback(lambda task: _ended(task, store))
        try:
            yield
        finally:
            pulling.cancel()
            await asyncio.gather(pulling, return_exceptions=True)


def _puller(options: GitOptions, cache: Cache, installation: str | None) -> Puller:
    def check(folder: Path) -> None:
        found = _installation(folder, options).id
        if installation not in {None, found}:
            raise Invalid(
                f"it renames the installation from {installation} to {found}, and all that runs would lose its owner; "
                f"to mean that, restart the operator with --installation {found}"
            )

    return Puller(cache, options.access, Git(), clock=SystemClock(), check=check)


def _installation(folder: Path, options: GitOptions) -> Installation:
    source = f"{options.address.url} {options.address.path}".strip()
    return installation_of(folder, options.installation, source=source)


def _secret(options: GitOptions) -> Callable[[], str]:
    reference = options.webhook_secret
    assert reference is not None, "checked with the address"
    return lambda: reference.read("--webhook-secret")


def _from_threads(ring: Callable[[], None]) -> Callable[[], None]:
    loop = asyncio.get_running_loop()

    def rung() -> None:
        loop.call_soon_threadsafe(ring)

    return rung


def _telling(metrics: GitMetrics, log: Log) -> Callable[[str], None]:
    def told(outcome: str) -> None:
        metrics.webhooks.labels(outcome).inc()
        if outcome == "failed":
            log.warning("webhook not obeyed: what --webhook-secret names cannot be read")
        elif outcome == "refused":
            log.debug("webhook not obeyed: it does not prove to know the secret")

    return told


def _ended(task: asyncio.Task[None], store: DirectoryStore) -> None:
    if not task.cancelled() and (failure := task.exception()) is not None:
        store.fail(failure)
