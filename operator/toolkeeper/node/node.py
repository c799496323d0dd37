"""One node agent, put together: runtime, ledger, observer, works, prober. The routes speak to this."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from toolkeeper import __version__
from toolkeeper.clock import Clock
from toolkeeper.dtma.wire import LOG_LINE_LIMIT, NodeInfo, ToolDefinitions, Usage, UsageList
from toolkeeper.errors import Conflict, NotFound, Unreachable
from toolkeeper.node.claims import Claims
from toolkeeper.node.entry import Entry
from toolkeeper.node.ledger import Ledger
from toolkeeper.node.metrics import Tally
from toolkeeper.node.notebook import Notebook
from toolkeeper.node.observer import Observer
from toolkeeper.node.probing import Prober
from toolkeeper.node.revisions import Revisions
from toolkeeper.node.runtime import Runtime
from toolkeeper.node.works import Works
from toolkeeper.reconcile.ports import Claim, InstanceRequest, ProbeCredential
from toolkeeper.telemetry.logs import Log

FIRST_LOOK_SECONDS = 5.0
SETTLE_SECONDS = 3.0


class Node:
    """A running node agent. `open` before anything else; `aclose` leaves the containers running."""

    def __init__(
        self, runtime: Runtime, notebook: Notebook, revisions: Revisions, *, clock: Clock, log: Log
    ) -> None:
        self.tally = Tally()
        self.runtime = runtime
        self._notebook = notebook
        self._claims = Claims(notebook)
        self._ledger = Ledger(clock=clock, notebook=notebook, revisions=revisions)
        self._works = Works(runtime, self._ledger, self._claims, clock=clock, tally=self.tally, log=log)
        self._observer = Observer(runtime, self._ledger, log, will_look_at=self._works.will_look_at)
        self._prober = Prober(runtime, self._ledger, clock=clock, tally=self.tally, log=log)
        for installation in self._claims.installations():
            self._prober.concerns(installation)
        self._watching: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()

    async def open(self) -> None:
        """Look at everything once. The runtime must be open already; from here on it is ours to close."""
        self._watching = asyncio.create_task(self._observer.run(), name="observer")
        try:
            async with asyncio.timeout(FIRST_LOOK_SECONDS):
                await self._observer.looked.wait()
        except TimeoutError:
            pass  # then `state` says that the runtime does not answer
        await self._prober.settle(SETTLE_SECONDS)
        self._settled.set()

    async def aclose(self) -> None:
        """Stop: long polls are answered, work under way is dropped, containers go on."""
        self.say_goodbye()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._works.aclose()
        await self._prober.aclose()
        await self.runtime.aclose()
        self._notebook.close()

    def say_goodbye(self) -> None:
        """Answer everybody who waits, now and from now on."""
        self._settled.set()
        self._ledger.revisions.close()

    @property
    def ready(self) -> bool:
        """Whether it is open and its runtime answers."""
        return self._settled.is_set() and self._ledger.runtime_ok

    def info(self) -> NodeInfo:
        """What this node is and can do."""
        ledger = self._ledger
        return NodeInfo(
            version=__version__,
            runtime=ledger.runtime,
            runtime_ok=ledger.runtime_ok,
            runtime_message=ledger.trouble,
            features=ledger.features,
            capacity_memory=ledger.capacity.memory,
            capacity_nano_cpus=ledger.capacity.nano_cpus,
        )

    async def state(self, installation: str, since: str, wait: float) -> bytes:
        """The snapshot as JSON: at once, or when its revision is another than `since`, `wait` seconds later at most."""
        await self._settled.wait()
        if since:
            await self._ledger.revisions.wait(installation, since, wait)
        return self._ledger.state(installation, self._claims.epoch(installation))

    def claim(self, installation: str, expected: int) -> int:
        """Grant the next epoch. Raises Fenced."""
        epoch = self._claims.claim(installation, expected)
        self._prober.concerns(installation)
        self._ledger.revisions.bump(installation)
        return epoch

    def create(self, claim: Claim, name: str, request: InstanceRequest) -> None:
        """Make it exist and run. Raises Fenced, Conflict, Invalid, Unreachable (the runtime does not answer)."""
        self._permit(claim)
        self._works.create(claim, name, request)

    def start(self, claim: Claim, name: str) -> None:
        """Start a stopped one. Raises Fenced, NotFound, Conflict, Unreachable."""
        self._permit(claim)
        self._works.start(claim, name)

    def stop(self, claim: Claim, name: str, drain: int) -> None:
        """Stop it. Raises Fenced, NotFound, Conflict, Unreachable."""
        self._permit(claim)
        self._works.stop(claim, name, drain)

    def restart(self, claim: Claim, name: str, run_id: str) -> None:
        """Restart that run. Raises Fenced, NotFound, Conflict, Unreachable."""
        self._permit(claim)
        self._works.restart(claim, name, run_id)

    def remove(self, claim: Claim, name: str, container_id: str, drain: int) -> None:
        """Remove that container. Raises Fenced, NotFound (absent), Conflict, Unreachable."""
        self._permit(claim)
        self._works.remove(claim, name, container_id, drain)

    async def remove_volume(self, claim: Claim, volume: str) -> None:
        """Remove a volume. Raises Fenced, Refused, Conflict, Unreachable."""
        self._permit(claim)
        await self._works.remove_volume(claim, volume)

    def lend(self, claim: Claim, name: str, container_id: str, credential: ProbeCredential | None) -> None:
        """What probes of that container show from now on (None: nothing), also while it is still being made.

        Raises Fenced, NotFound, Conflict (another container), Unreachable.
        """
        self._permit(claim)
        entry = self._entry(name)
        if entry.installation != claim.installation:
            raise NotFound(f"there is no {name} here")
        present = entry.seen.container.container_id if entry.seen is not None else ""
        if container_id not in ("", present):
            raise Conflict(f"container is {present or 'unknown'}, not {container_id}")
        self._ledger.lend(entry, credential)

    def tools(self, name: str) -> ToolDefinitions:
        """What the server listed last. Raises NotFound when it never did."""
        page = self._entry(name).page
        if page is None:
            raise NotFound(f"{name} has not listed its tools yet")
        return ToolDefinitions(tools_hash=page.handshake.tools_hash, tools=page.definitions)

    def logs(self, name: str, *, tail: int, follow: bool) -> AsyncIterator[str]:
        """Its log lines, masked. Raises NotFound at once when there is no container."""
        entry = self._entry(name)
        if entry.seen is None:
            raise NotFound(f"{name} has no container yet")
        return self._masked(entry, self.runtime.logs(name, tail=tail, follow=follow))

    async def usage(self, installation: str | None = None) -> UsageList:
        """What the running containers (of an installation) use now. Raises Unreachable."""
        names = frozenset(
            entry.name for entry in self._ledger.entries(installation) if entry.seen is not None
        )
        usages = await self.runtime.usage(names)
        return UsageList(
            usage=tuple(
                Usage(
                    name=name,
                    cpu=use.cpu,
                    memory=use.memory,
                    memory_limit=use.memory_limit,
                    pids=use.pids,
                )
                for name, use in sorted(usages.items())
            )
        )

    async def metrics_text(self) -> bytes:
        """All metrics, with what each container uses now if the runtime says so."""
        try:
            usage = (await self.usage()).usage
        except Unreachable:
            usage = ()
        return self.tally.text(up=self._ledger.runtime_ok, states=self._ledger.counts(), usage=usage)

    @staticmethod
    async def _masked(entry: Entry, lines: AsyncIterator[str]) -> AsyncIterator[str]:
        async for line in lines:
            yield entry.mask(line)[:LOG_LINE_LIMIT]

    def _permit(self, claim: Claim) -> None:
        self._claims.check(claim.installation, claim.epoch)
        if not self._ledger.runtime_ok:
            raise Unreachable(
                f"the runtime does not answer: {self._ledger.trouble}", reason="RuntimeUnavailable"
            )

    def _entry(self, name: str) -> Entry:
        entry = self._ledger.get(name)
        if entry is None:
            raise NotFound(f"there is no {name} here")
        return entry
