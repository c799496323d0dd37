"""When the node probes: often until a server first answers, then at its interval; a stdio server once per run.

One task follows one run of one container. A probe that tells the same as the last one changes nothing.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from dataclasses import replace
from urllib.parse import urlsplit

from toolkeeper.clock import Clock
from toolkeeper.errors import ToolkeeperError
from toolkeeper.node.entry import Entry, run_of, values_of
from toolkeeper.node.faults import trace
from toolkeeper.node.ledger import Ledger
from toolkeeper.node.masking import Mask
from toolkeeper.node.metrics import Tally
from toolkeeper.node.notebook import Page
from toolkeeper.node.runtime import Runtime, Seen
from toolkeeper.planning.observed import Handshake
from toolkeeper.probe.endpoint import make_client, probe_http
from toolkeeper.probe.outcome import ProbeOutcome
from toolkeeper.probe.stdio import probe_stream
from toolkeeper.reconcile.ports import ProbeCredential
from toolkeeper.telemetry.logs import Log

FIRST_DELAY = 0.02
LONGEST_DELAY = 1.0
PARALLEL = 32
HTTP_SECONDS = 5.0
STDIO_SECONDS = 30.0
STDIO_RETRY_SECONDS = 10.0
STARTING_SECONDS = 2.0
"""A server that does not listen yet is starting; after this it is worth saying so."""
MOST_FAILURES = 100
"""Of a row; counting on would be a change of the state without end."""
_TRANSIENT = frozenset({"ConnectionRefused", "Timeout"})


class Prober:
    """Follows the running containers of the installations that have claimed this node.

    Those of others belong to another agent on this host, such as the one that `up` brings along; a stdio server that
    two agents spoke to at once would answer neither.
    """

    def __init__(self, runtime: Runtime, ledger: Ledger, *, clock: Clock, tally: Tally, log: Log) -> None:
        self._runtime = runtime
        self._ledger = ledger
        self._clock = clock
        self._tally = tally
        self._log = log
        self._turns = asyncio.Semaphore(PARALLEL)
        # Servers are reached by plain HTTP on this host; a context without authorities costs nothing.
        self._client = make_client(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        self._following: dict[str, tuple[str, asyncio.Task[None]]] = {}
        self._credentials: dict[str, str] = {}
        self._hurry: dict[str, asyncio.Event] = {}
        self._first: dict[str, asyncio.Event] = {}
        self._closed = False
        self._claimed: set[str] = set()
        ledger.listen(self._notice)

    def concerns(self, installation: str) -> None:
        """That installation has claimed this node, now or before."""
        if installation not in self._claimed:
            self._claimed.add(installation)
            for entry in self._ledger.entries(installation):
                self._notice(entry)

    async def settle(self, seconds: float) -> None:
        """Until every server that runs now was probed once by us or by the agent before us, or `seconds` are over.

        A restarted agent that answered before would show healthy servers as never probed.
        """
        waiting = [event.wait() for event in list(self._first.values())]
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*waiting)

    async def aclose(self) -> None:
        """Stop following; servers stay as they are."""
        self._closed = True
        tasks = [task for _, task in self._following.values()]
        self._following.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.aclose()

    def _notice(self, entry: Entry) -> None:
        if self._closed or entry.installation not in self._claimed:
            return
        seen = entry.seen
        running = seen is not None and entry.view is not None and entry.view.state == "running"
        run = run_of(seen.container) if seen is not None and running else ""
        following, task = self._following.get(entry.name, ("", None))
        if following == run:
            self._notice_credential(entry)
            return
        if task is not None:
            task.cancel()
            self._drop(entry.name)
        if seen is not None and run:
            self._first[entry.name], self._hurry[entry.name] = asyncio.Event(), asyncio.Event()
            self._credentials[entry.name] = _version(entry)
            task = asyncio.create_task(self._follow(entry.name, run, seen), name=f"probe {entry.name}")
            self._following[entry.name] = (run, task)

    def _notice_credential(self, entry: Entry) -> None:
        """With another credential the server is asked again at once."""
        version = _version(entry)
        if entry.name in self._credentials and self._credentials[entry.name] != version:
            self._credentials[entry.name] = version
            self._hurry[entry.name].set()

    async def rest(self, name: str, seconds: float) -> None:
        """Until its next probe is due: after so long, or as soon as it has another credential."""
        hurry = self._hurry.get(name)
        if hurry is None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await hurry.wait()
        hurry.clear()

    def _drop(self, name: str) -> None:
        self._following.pop(name, None)
        self._credentials.pop(name, None)
        self._hurry.pop(name, None)
        event = self._first.pop(name, None)
        if event is not None:
            event.set()

    async def _follow(self, name: str, run: str, seen: Seen) -> None:
        """The outermost turn: a probe that fails in an unknown way is tried again, like any other."""
        while self.follows(name, run):
            try:
                await _Pursuit(self, name, run, seen).run()
            except ToolkeeperError as error:
                self._log.info("probe put off", container=name, because=str(error))
            except Exception as error:  # noqa: BLE001 - the outermost turn of the task
                self._log.error("probing failed unexpectedly", container=name, trace=trace(error))
            else:
                return
            self.tried(name)
            await asyncio.sleep(STDIO_RETRY_SECONDS if seen.transport == "stdio" else LONGEST_DELAY)

    async def probe(self, name: str, seen: Seen, known: Handshake | None) -> ProbeOutcome:
        """One probe, in its turn."""
        async with self._turns:
            began = self._clock.monotonic()
            entry = self._ledger.get(name)
            credential = entry.credential if entry is not None and seen.transport != "stdio" else None
            outcome = await self._ask(name, seen, known, credential)
            reason = outcome.handshake.reason
            self._tally.probe(reason, self._clock.monotonic() - began)
        if credential is None:
            return outcome
        return replace(outcome, handshake=_shown(outcome.handshake, credential))

    async def _ask(
        self, name: str, seen: Seen, known: Handshake | None, credential: ProbeCredential | None
    ) -> ProbeOutcome:
        era = known.era if known is not None else ""
        if seen.transport == "stdio":
            async with self._runtime.attach(name) as stream:
                return await probe_stream(stream.send, stream.receive, STDIO_SECONDS, era=era)
        return await probe_http(
            seen.container.address,
            transport=seen.transport,
            client=self._client,
            timeout=HTTP_SECONDS,
            host_header=seen.host_header or None,
            credential=None if credential is None else credential.value,
            era=era,
        )

    def report(self, name: str, page: Page, failures: int) -> None:
        """A probe came out."""
        self._ledger.probed(name, page.run_id, page, failures)
        self.tried(name)

    def follows(self, name: str, run: str) -> bool:
        """Whether that run is still to be probed.

        Asked after every probe: a cancellation that meets the end of a probe's own time limit may be lost in it.
        """
        return self._following.get(name, ("", None))[0] == run

    def tried(self, name: str) -> None:
        """Its server was asked, whatever came of it."""
        event = self._first.get(name)
        if event is not None:
            event.set()

    def page(self, name: str, run: str) -> Page | None:
        """What this run answered before."""
        entry = self._ledger.get(name)
        return (
            entry.page if entry is not None and entry.page is not None and entry.page.run_id == run else None
        )

    def age(self, name: str) -> float:
        """Seconds since the run began."""
        entry = self._ledger.get(name)
        return entry.age(self._clock.monotonic()) if entry is not None else 0.0

    async def on_loopback(self, name: str) -> bool:
        """Whether the server hides on its own loopback."""
        return await self._runtime.listening_on_loopback(name) is True


def _version(entry: Entry) -> str:
    return "" if entry.credential is None else entry.credential.version


def _shown(handshake: Handshake, credential: ProbeCredential) -> Handshake:
    """What was said to that credential, without the credential: a server may call itself by it."""
    mask = Mask(values_of(credential))
    return replace(
        handshake,
        credential=credential.version,
        message=mask(handshake.message),
        server_name=mask(handshake.server_name),
        server_version=mask(handshake.server_version),
    )


class _Pursuit:
    """One run of one server, from its start until somebody cancels."""

    def __init__(self, prober: Prober, name: str, run: str, seen: Seen) -> None:
        self._prober = prober
        self._name = name
        self._run = run
        self._seen = seen
        self._page = prober.page(name, run)

    async def run(self) -> None:
        if self._page is None:
            await self._until_it_answers()
        elif self._seen.transport == "stdio":
            self._prober.report(self._name, self._page, 0)
        else:
            await self._again(0)
        if self._seen.transport != "stdio":
            await self._from_now_on()

    async def _until_it_answers(self) -> None:
        delay = FIRST_DELAY
        while self._prober.follows(self._name, self._run):
            handshake = await self._attempt()
            if handshake.ok:
                return
            stdio = self._seen.transport == "stdio"
            await asyncio.sleep(STDIO_RETRY_SECONDS if stdio else delay)
            delay = min(delay * 2, LONGEST_DELAY)

    async def _attempt(self) -> Handshake:
        if self._seen.transport != "stdio" and not await _listens(self._seen.container.address):
            handshake = Handshake(ok=False, reason="ConnectionRefused", message="nothing listens there yet")
            outcome = ProbeOutcome(handshake)
        else:
            outcome = await self._prober.probe(self._name, self._seen, None)
        page = Page(self._run, await self._explained(outcome.handshake), outcome.definitions)
        if page.handshake.ok:
            self._page = page
        if page.handshake.reason not in _TRANSIENT or self._prober.age(self._name) > STARTING_SECONDS:
            self._prober.report(self._name, page, 0)
        self._prober.tried(self._name)
        return page.handshake

    async def _explained(self, handshake: Handshake) -> Handshake:
        late = self._prober.age(self._name) > STARTING_SECONDS
        if handshake.reason == "ConnectionRefused" and late and await self._prober.on_loopback(self._name):
            message = "the server listens on 127.0.0.1 inside its container, where nobody else reaches it"
            return Handshake(ok=False, reason="BoundToLoopback", message=message)
        return handshake

    async def _from_now_on(self) -> None:
        failures = 0
        while self._prober.follows(self._name, self._run):
            await self._prober.rest(self._name, self._seen.probe_interval)
            failures = await self._again(failures)

    async def _again(self, failures: int) -> int:
        known = self._page.handshake if self._page else None
        outcome = await self._prober.probe(self._name, self._seen, known)
        page = Page(self._run, await self._explained(outcome.handshake), outcome.definitions)
        if page.handshake.ok:
            self._page = page
        failures = 0 if page.handshake.ok else min(failures + 1, MOST_FAILURES)
        self._prober.report(self._name, page, failures)
        return failures


async def _listens(address: str) -> bool:
    """Whether somebody accepts connections there: a hundredth of a probe, so it may be asked often."""
    parts = urlsplit(address)
    try:
        async with asyncio.timeout(1.0):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return True
