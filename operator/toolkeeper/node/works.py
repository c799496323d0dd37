"""What the node does with containers, in the background: one thing at a time per container, each under a claim.

A write is accepted at once and done here. Before every side effect the claim is checked again: a leader that was
fenced off meanwhile changes nothing any more, however much of its work was still under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace

from toolkeeper.clock import Clock
from toolkeeper.errors import Conflict, Fenced, Invalid, NotFound, Refused, ToolkeeperError, Unreachable
from toolkeeper.node.claims import Claims
from toolkeeper.node.entry import Entry, Failure, Verb, Work
from toolkeeper.node.faults import trace
from toolkeeper.node.ledger import Ledger
from toolkeeper.node.metrics import Tally
from toolkeeper.node.runtime import Runtime, Seen
from toolkeeper.node.slots import Slots
from toolkeeper.planning.observed import Container, DockerState
from toolkeeper.reconcile.ports import Claim, InstanceRequest
from toolkeeper.telemetry.logs import Log

PARALLEL_CREATES = 8
"""Docker starts two or three containers at a time on each core; more wait their turn there, so that it never idles."""
PROGRESS_SECONDS = 1.0
_RUNS = frozenset({"running", "restarting", "paused"})


@dataclass(slots=True)
class _Job:
    """One piece of work under way. `claim` moves on when a newer leader asks for the same."""

    verb: Verb
    claim: Claim
    work: Work
    drain: int = 0
    task: asyncio.Task[None] | None = None
    holds_slot: bool = False
    shown_at: float = 0.0
    entered_at: float = 0.0
    """When its present state began."""
    flush: asyncio.TimerHandle | None = None
    concluding: bool = False
    """Whether its last look at the container has begun."""


class Works:
    """The verbs of the API. Each raises at once what can be known at once, and answers for the rest in `state`."""

    def __init__(
        self, runtime: Runtime, ledger: Ledger, claims: Claims, *, clock: Clock, tally: Tally, log: Log
    ) -> None:
        self._runtime = runtime
        self._ledger = ledger
        self._claims = claims
        self._clock = clock
        self._tally = tally
        self._log = log
        self._slots = Slots(PARALLEL_CREATES)
        self._jobs: dict[str, _Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def create(self, claim: Claim, name: str, request: InstanceRequest) -> None:
        """Make it exist and run. Raises Conflict while something else is being done with it."""
        job = self._jobs.get(name)
        if job is not None and job.verb == "create":
            job.claim = claim
            return
        self._refuse_if_busy(name, job)
        entry = self._ledger.get(name)
        if entry is not None and entry.seen is not None and entry.seen.container.state in _RUNS:
            return
        secrets = [*request.secrets.values(), request.registry_password]
        job = self._begin(name, "create", claim, _sketch(name, claim, request), secrets)
        self._spawn(name, job, lambda: self._create(name, job, request))

    def start(self, claim: Claim, name: str) -> None:
        """Start a stopped one. Raises NotFound, Conflict."""
        self._simple(claim, name, "start", lambda: self._runtime.start(name))

    def stop(self, claim: Claim, name: str, drain: int) -> None:
        """Stop it and keep it. Raises NotFound, Conflict."""
        self._simple(claim, name, "stop", lambda: self._runtime.stop(name, drain))

    def restart(self, claim: Claim, name: str, run_id: str) -> None:
        """Restart that run. Raises NotFound, Conflict (also when it is another run by now)."""
        entry = self._owned(claim, name)
        _expect("run", run_id, entry.seen.container.run_id if entry.seen else "")

        async def once_more() -> None:
            seen = await self._runtime.look_at(name)
            if seen is not None and run_id in {"", seen.container.run_id}:
                await self._runtime.restart(name)

        self._simple(claim, name, "restart", once_more)

    def remove(self, claim: Claim, name: str, container_id: str, drain: int) -> None:
        """Cancel what is being done with it, then remove it. Raises NotFound (absent), Conflict (another container)."""
        job = self._jobs.get(name)
        if job is not None and job.verb == "remove" and job.drain <= drain:
            job.claim = claim
            return
        entry = self._owned(claim, name)
        if entry.seen is not None:
            _expect("container", container_id, entry.seen.container.container_id)
        previous = job.task if job is not None else None
        if previous is not None:
            previous.cancel()
        removal = self._begin(name, "remove", claim, _sketch_of(entry), ())
        removal.drain = drain
        self._spawn(name, removal, lambda: self._remove(name, previous, container_id, drain))

    def will_look_at(self, name: str) -> bool:
        """Whether it is being created: then it will be looked at once that is over, and nobody else needs to."""
        job = self._jobs.get(name)
        return job is not None and job.verb == "create" and not job.concluding

    async def remove_volume(self, claim: Claim, volume: str) -> None:
        """Remove a volume of that installation. Raises Refused, Conflict (in use), Unreachable."""
        await self._runtime.remove_volume(claim.installation, volume)
        await self._look()

    async def aclose(self) -> None:
        """Cancel everything that is under way; containers stay as they are."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # What can be known at once

    def _owned(self, claim: Claim, name: str) -> Entry:
        entry = self._ledger.get(name)
        if entry is None or entry.installation != claim.installation:
            raise NotFound(f"there is no {name} here")
        return entry

    def _refuse_if_busy(self, name: str, job: _Job | None) -> None:
        if job is not None:
            raise Conflict(f"{name} is busy: {job.verb} is under way")

    def _simple(self, claim: Claim, name: str, verb: Verb, act: Callable[[], Awaitable[None]]) -> None:
        job = self._jobs.get(name)
        if job is not None and job.verb == verb:
            job.claim = claim
            return
        self._refuse_if_busy(name, job)
        entry = self._owned(claim, name)
        if entry.seen is None:
            raise NotFound(f"there is no container {name} yet")
        job = self._begin(name, verb, claim, entry.seen.container, ())
        self._spawn(name, job, act)

    # How it is done

    def _begin(self, name: str, verb: Verb, claim: Claim, sketch: Container, secrets: Iterable[str]) -> _Job:
        work = Work(verb, self._clock.monotonic(), sketch)
        job = _Job(verb, claim, work)
        self._jobs[name] = job
        self._ledger.work_begins(name, work, secrets=secrets)
        return job

    def _spawn(self, name: str, job: _Job, act: Callable[[], Awaitable[None]]) -> None:
        job.task = asyncio.create_task(self._carry_out(name, job, act), name=f"{job.verb} {name}")
        self._tasks.add(job.task)
        job.task.add_done_callback(self._tasks.discard)

    async def _carry_out(self, name: str, job: _Job, act: Callable[[], Awaitable[None]]) -> None:
        """The outermost turn of one piece of work: whatever happens, the ledger learns how it ended."""
        failure: Failure | None = None
        outcome = "done"
        try:
            self._check(job)
            await act()
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        except Fenced:
            outcome = "fenced"
        except (Unreachable, NotFound):
            outcome = "unknown"  # the runtime or the container has gone; the observer says which
        except ToolkeeperError as error:
            failure = self._failure(job, error)
        except Exception as error:  # noqa: BLE001 - the outermost turn of a background task
            self._log.error("work failed unexpectedly", container=name, verb=job.verb, trace=trace(error))
            failure = self._failure(job, Refused(f"unexpected: {error!r}", reason="CreateFailed"))
        finally:
            await self._conclude(name, job, failure, outcome)

    async def _conclude(self, name: str, job: _Job, failure: Failure | None, outcome: str) -> None:
        if job.flush is not None:
            job.flush.cancel()
        if job.holds_slot:
            self._slots.give()
        self._leave_state(job, ok=False)
        reason = failure.reason if failure else ""
        self._tally.work(job.verb, "failed" if failure else outcome, reason)
        self._log.info(job.verb, container=name, outcome="failed" if failure else outcome, reason=reason)
        if self._jobs.get(name) is not job:
            return  # a removal has taken over
        if outcome != "cancelled":
            job.concluding = True
            seen = await self._look_at(name)
            if job.verb == "create" and seen is not None and seen.container.volumes:
                await self._look()  # it may have brought volumes
        if self._jobs.get(name) is job:
            del self._jobs[name]
            self._ledger.work_ends(name, failure)

    async def _look_at(self, name: str) -> Seen | None:
        look = self._ledger.look_begins()
        try:
            seen = await self._runtime.look_at(name)
        except Unreachable:
            return None
        self._ledger.saw_one(name, seen, look)
        return seen

    async def _look(self) -> None:
        look = self._ledger.look_begins()
        with suppress(Unreachable):
            self._ledger.saw(await self._runtime.look(), look)

    async def _create(self, name: str, job: _Job, request: InstanceRequest) -> None:
        await self._slots.take()
        job.holds_slot = True

        def step(state: DockerState, text: str) -> None:
            self._check(job)
            self._yield_slot(job, waits=state in {"pulling", "building"})
            self._advance(name, job, state, text)

        self._check(job)
        await self._runtime.create(name, job.claim.installation, request, step)

    async def _remove(
        self, name: str, previous: asyncio.Task[None] | None, container_id: str, drain: int
    ) -> None:
        if previous is not None:
            await asyncio.wait([previous])
        seen = await self._look_at(name)
        if seen is not None and container_id not in {"", seen.container.container_id}:
            return  # another container has taken the name since; it was not the one that was meant
        job = self._jobs.get(name)
        if job is not None:
            self._check(job)
        await self._runtime.remove(name, drain)

    def _check(self, job: _Job) -> None:
        self._claims.check(job.claim.installation, job.claim.epoch)

    def _failure(self, job: _Job, error: ToolkeeperError) -> Failure:
        reason = error.reason if isinstance(error, Refused) else "CreateFailed"
        return Failure(reason, str(error), self._clock.monotonic(), job.work.sketch)

    def _yield_slot(self, job: _Job, *, waits: bool) -> None:
        if waits and job.holds_slot:
            self._slots.give()
        elif not waits and not job.holds_slot:
            self._slots.take_now()
        job.holds_slot = not waits

    def _advance(self, name: str, job: _Job, state: DockerState, text: str) -> None:
        """Show progress: a new state at once, new text once a second at most, the last text always."""
        changed = state != job.work.state
        if changed:
            self._leave_state(job, ok=True)
        job.work = replace(job.work, state=state, text=text)
        wait = job.shown_at + PROGRESS_SECONDS - self._clock.monotonic()
        if changed or wait <= 0:
            self._show(name, job)
        elif job.flush is None:
            job.flush = asyncio.get_running_loop().call_later(wait, self._show, name, job)

    def _leave_state(self, job: _Job, *, ok: bool) -> None:
        now = self._clock.monotonic()
        self._tally.fetched(job.work.state, now - job.entered_at, ok=ok)
        job.entered_at = now

    def _show(self, name: str, job: _Job) -> None:
        if job.flush is not None:
            job.flush.cancel()
            job.flush = None
        job.shown_at = self._clock.monotonic()
        if self._jobs.get(name) is job:
            self._ledger.work_advances(name, job.work)


def _expect(what: str, wanted: str, present: str) -> None:
    if wanted and wanted != present:
        raise Conflict(f"{what} is {present or 'unknown'}, not {wanted}")


def _sketch_of(entry: Entry) -> Container:
    known = entry.seen.container if entry.seen else entry.work.sketch if entry.work else None
    if known is None:
        assert entry.failure is not None, "the ledger forgets an entry with nothing in it"
        known = entry.failure.sketch
    return known


def _sketch(name: str, claim: Claim, request: InstanceRequest) -> Container:
    if not name.startswith(f"tk_{claim.installation}_{request.namespace}_{request.server}_"):
        raise Invalid(f"{name} is not a name of {request.namespace}/{request.server} of {claim.installation}")
    digest = request.hash.rpartition(":")[2]
    if not name.endswith(f"_{digest[:8]}"):
        raise Invalid(f"{name} does not end with the first eight digits of its hash")
    return Container(
        name=name,
        installation=claim.installation,
        namespace=request.namespace,
        server=request.server,
        hash=request.hash,
        renderer=request.instance.renderer,
        state="pending",
        image=request.instance.image,
    )
