"""Following a ref: when to look, what to do with a new commit, and what to say about it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from toolkeeper.clock import Clock
from toolkeeper.errors import Invalid, NotFound, ToolkeeperError
from toolkeeper.stores import tree
from toolkeeper.stores.declared import short
from toolkeeper.stores.git import worktree
from toolkeeper.stores.git.access import Access
from toolkeeper.stores.git.cache import Cache, Pulled
from toolkeeper.stores.git.program import Git, Run
from toolkeeper.stores.git.repository import Repository, Tip
from toolkeeper.telemetry.logs import Log
from toolkeeper.telemetry.metrics import GitMetrics

AT_LEAST_SECONDS = 1.0
"""Between two pulls, however often somebody rings."""


@dataclass(frozen=True, slots=True)
class Pull:
    """What came of one look at the source."""

    commit: str
    """The commit that holds now."""
    before: str
    """The one that held before; the same when nothing is new."""
    rewritten: bool = False
    """The commit does not follow the one before."""


class Puller:
    """Brings the newest commit into force, whole or not at all; what fails leaves the last good one as it is."""

    def __init__(
        self,
        cache: Cache,
        access: Access,
        git: Git,
        *,
        clock: Clock,
        check: Callable[[Path], None] = lambda folder: None,
    ) -> None:
        """`check` is asked about the folder of manifests of each new commit, and raises Invalid to refuse it."""
        self._cache = cache
        self._access = access
        self._repository = Repository(git, cache.repository)
        self._clock = clock
        self._check = check
        self._refused: tuple[str, ToolkeeperError] | None = None
        self._rung = asyncio.Event()

    async def pull(self) -> Pull:
        """Look once. Raises what it is stopped by, which is also written down for everybody to read."""
        try:
            pull, remarks = await self._pull()
        except ToolkeeperError as exc:
            self._failed(str(exc))
            raise
        self._succeeded(pull, remarks)
        return pull

    def ring(self) -> None:
        """Look soon. From any task of this loop."""
        self._rung.set()

    async def follow(
        self,
        every: float,
        *,
        rng: random.Random,
        log: Log,
        metrics: GitMetrics,
        switched: Callable[[], None],
    ) -> None:
        """Pull for ever. `switched` is called when there is news: a commit, a failure, or the end of one."""
        news = _News(log, metrics, str(self._cache.address))
        while True:
            self._rung.clear()
            before = (self._cache.commit, self._cache.pulled())
            began = self._clock.monotonic()
            try:
                pull = await self.pull()
            except ToolkeeperError as exc:
                news.failed(exc)
            else:
                news.pulled(pull, self._clock.now().timestamp())
            metrics.pull_seconds.observe(self._clock.monotonic() - began)
            if (self._cache.commit, self._cache.pulled()) != before:
                switched()
            await asyncio.sleep(AT_LEAST_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, every * rng.uniform(0.9, 1.1) - AT_LEAST_SECONDS)):
                    await self._rung.wait()

    async def _pull(self) -> tuple[Pull, tuple[str, ...]]:
        async with self._cache.locked() as lock:
            before = self._cache.commit
            self._cache.prune(self._clock.now().timestamp())
            if self._access.address.commit == before != "":
                return Pull(before, before), self._cache.pulled().remarks
            run = self._access.run((lock,))
            tip = await self._repository.tip(self._access.address, run)
            if tip.commit == before:
                return Pull(before, before), self._cache.pulled().remarks
            if self._refused is not None and self._refused[0] == tip.commit:
                raise self._refused[1]
            return await self._take(tip, before, run)

    async def _take(self, tip: Tip, before: str, run: Run) -> tuple[Pull, tuple[str, ...]]:
        address = self._access.address
        commit = await self._repository.fetch(address, tip, run)
        if commit == before:
            return Pull(before, before), self._cache.pulled().remarks
        try:
            remarks = await self._bring(commit, Run(held=run.held, seconds=run.seconds))
        except (Invalid, NotFound) as exc:  # and so it stays: a commit never changes
            refused = Invalid(f"commit {short(commit)} is not taken: {exc}")
            self._refused = (commit, refused)
            raise refused from exc
        self._cache.switch(commit, self._clock.now().timestamp())
        follows = None
        if before:  # to be told only, and a long history may take its time
            follows = await self._repository.follows(address, tip, run, commit=commit, before=before)
        return Pull(commit, before, rewritten=follows is False), remarks

    async def _bring(self, commit: str, run: Run) -> tuple[str, ...]:
        """The whole commit to the cache, checked but not yet in force."""
        path = self._access.address.path
        chosen = worktree.chosen(await self._repository.entries(commit, path, run))
        if not self._cache.has(commit):
            with self._cache.draft(commit) as draft:
                await worktree.write(draft / path, chosen, self._repository, run)
                self._check(draft / path)
                self._cache.adopt(draft, commit)
        return tuple(
            f"{tree.shown(each)} is a submodule and is not followed: keep its manifests in the repository itself"
            for each in chosen.submodules
        )

    def _succeeded(self, pull: Pull, remarks: tuple[str, ...]) -> None:
        known = self._cache.pulled()
        at = known.at if known.commit == pull.commit and known.at else self._now()
        self._cache.keep(Pulled(pull.commit, at, remarks=remarks))

    def _failed(self, why: str) -> None:
        known = replace(self._cache.pulled(), commit=self._cache.commit)
        since = known.since if known.failure else self._now()
        with suppress(ToolkeeperError):  # a full disk is what it may be about
            self._cache.keep(replace(known, failure=why, since=since))

    def _now(self) -> str:
        return self._clock.now().isoformat(timespec="seconds")


class _News:
    """Says each thing once."""

    def __init__(self, log: Log, metrics: GitMetrics, source: str) -> None:
        self._log, self._metrics, self._source = log, metrics, source
        self._failure = ""

    def failed(self, exc: ToolkeeperError) -> None:
        self._metrics.pulls.labels("failed").inc()
        self._metrics.failing.set(1)
        if str(exc) != self._failure:
            self._failure = str(exc)
            self._log.warning(
                "source not pulled, the last good commit holds", source=self._source, error=str(exc)
            )

    def pulled(self, pull: Pull, now: float) -> None:
        new = pull.commit != pull.before
        self._metrics.pulls.labels("switched" if new else "unchanged").inc()
        self._metrics.failing.set(0)
        self._metrics.last_success.set(now)
        self._metrics.commit.clear()
        self._metrics.commit.labels(pull.commit).set(1)
        if self._failure:
            self._failure = ""
            self._log.info("source pulled again", source=self._source, commit=pull.commit)
        if new:
            self._log.info("commit in force", source=self._source, commit=pull.commit, before=pull.before)
        if pull.rewritten:
            self._log.warning(
                "history was rewritten, and is followed",
                source=self._source,
                commit=pull.commit,
                before=pull.before,
            )
