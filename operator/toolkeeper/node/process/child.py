"""One server as a child process: started, watched, restarted by its policy, stopped; adopted by the next agent.

created ──start──▶ running ──ends──▶ exited          restart policy says no, or somebody stopped it
                    ▲   │
                    │   └──ends──▶ restarting        policy says yes; back-off 0.1 s, doubling to 60 s
                    └───────────────┘
ends with its port taken ──▶ failed (PortInUse)      trying again would not help
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from toolkeeper.clock import Clock
from toolkeeper.errors import Refused
from toolkeeper.node.process import table as process_table
from toolkeeper.node.process.folder import Folder
from toolkeeper.node.process.launch import HOST, Launch, Turns, seen
from toolkeeper.node.process.shim import KILLED, Run, exit_code, reap, spawn
from toolkeeper.node.runtime import Seen

FIRST_BACKOFF = 0.1
LONGEST_BACKOFF = 60.0
HEALTHY_SECONDS = 10.0
"""A run of that length makes the next back-off the first again, as Docker does it."""
RESTART_GRACE = 10.0
LAST_LINES = 20
POLL_SECONDS = 0.2
_PORT_TAKEN = re.compile(r"EADDRINUSE|address already in use", re.IGNORECASE)


class Child:
    """One server. `changed` is called after every transition."""

    def __init__(
        self,
        launch: Launch,
        folder: Folder,
        *,
        clock: Clock,
        new_id: Callable[[], str],
        changed: Callable[[str], None],
    ) -> None:
        self.launch = launch
        self.folder = folder
        self._clock = clock
        self._new_id = new_id
        self._changed = changed
        self._turns = folder.turns()
        self.pid: int | None = None
        self._wanted = False
        self._backoff = FIRST_BACKOFF
        self._began = clock.monotonic()
        self._life: asyncio.Task[None] | None = None
        self._last_words: tuple[str, ...] = ()
        """Of the run before this one: between two crashes, whoever asks why it restarts wants to know."""

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self.pid is not None

    def seen(self) -> Seen:
        """What the ledger is told."""
        over = self._turns.state in {"exited", "restarting", "failed"}
        again = self._turns.exit_code is not None
        words = self._words() if over else self._last_words if again else ()
        return seen(self.launch, self._turns, words)

    def adopt(self) -> None:
        """After a restart of the agent: go on where the last one stopped."""
        if self._turns.state not in {"running", "restarting"}:
            return
        self._wanted = True
        self.pid = process_table.find(self._turns.run_id)
        if self.pid is None and self._turns.state == "running":
            self._ended()
        self._life = asyncio.create_task(self._live(), name=f"life of {self.launch.name}")

    async def start(self) -> None:
        """Running when this returns. Raises Refused: PortInUse, StartFailed."""
        if self.running:
            return
        await self._settle()
        self._wanted = True
        self._backoff = FIRST_BACKOFF
        self._spawn()
        self._life = asyncio.create_task(self._live(), name=f"life of {self.launch.name}")

    async def stop(self, drain: float) -> None:
        """Ended when this returns, and not started again."""
        self._wanted = False
        await self._end(drain)
        await self._settle()
        if self._turns.state not in {"exited", "failed"}:
            self._turn(replace(self._turns, state="exited"))

    async def restart(self) -> None:
        """End its run and start another. Raises as `start` does."""
        await self.stop(RESTART_GRACE)
        await self.start()

    async def leave(self) -> None:
        """The agent goes; the process stays."""
        await self._settle()

    def exceeds(self, memory: int) -> None:
        """Its processes use that much: kill them when it is too much."""
        if self.pid is not None and 0 < self.launch.memory < memory:
            self._turns = replace(self._turns, oom_killed=True)
            process_table.kill(self.pid, signal.SIGKILL)

    # How it lives

    async def _settle(self) -> None:
        """Nobody watches it any more."""
        life, self._life = self._life, None
        if life is not None:
            life.cancel()
            await asyncio.gather(life, return_exceptions=True)

    async def _live(self) -> None:
        """Watch run after run, until one is the last."""
        while True:
            if self.pid is not None:
                await _gone(self.pid, self._turns.run_id)
                self._ended()
            if self._turns.state != "restarting":
                return
            await asyncio.sleep(self._backoff)
            self._backoff = min(self._backoff * 2, LONGEST_BACKOFF)
            try:
                self._spawn()
            except Refused as error:
                self._turn(replace(self._turns, state="failed", error_reason=error.reason, error=str(error)))
                return

    def _spawn(self) -> None:
        launch = self.launch
        if launch.port and not is_free(launch.port):
            message = (
                f"port {launch.port} of {HOST} is taken by another program; let the server use {{{{port}}}}"
            )
            raise Refused(message, reason="PortInUse")
        run_id = self._new_id()
        since = self._clock.now().timestamp()
        again = self._turns.state == "restarting"
        last = self._turns
        code = last.exit_code if again else None
        turns = Turns("running", run_id, since, last.restarts + again, exit_code=code)
        # On disk before it lives: an agent that dies in between leaves a mark to find it by.
        self.folder.note(turns)
        stdio = launch.transport == "stdio"
        try:
            self.pid = spawn(
                Run(
                    id=run_id,
                    folder=self.folder.path,
                    argv=launch.argv,
                    env=launch.env,
                    directory=self.folder.home,
                    nofile=launch.nofile,
                    stdin=self.folder.input if stdio else None,
                    stdout=self.folder.output if stdio else self.folder.log,
                    stderr=self.folder.log,
                )
            )
        except OSError as exc:
            self._turn(replace(self._turns, state="exited"))
            raise Refused(f"{launch.argv[0]} cannot be started: {exc}", reason="StartFailed") from exc
        self._began = self._clock.monotonic()
        self._turn(turns, noted=True)

    def _ended(self) -> None:
        """Its run is over: what the shell wrote down, what is left of its session, and what comes next.

        Whoever sees it first (the watch or the stop) does this; for the other the state says so already.
        """
        if self._turns.state != "running":
            return
        pid, self.pid = self.pid, None
        if pid is not None:
            reap(pid)
            process_table.kill(pid, signal.SIGKILL)
        code = exit_code(self.folder.path, self._turns.run_id)
        self._last_words = self._words()
        if self._clock.monotonic() - self._began > HEALTHY_SECONDS:
            self._backoff = FIRST_BACKOFF
        turns = replace(self._turns, state="exited", exit_code=code)
        if turns.oom_killed:
            turns = replace(turns, exit_code=KILLED)
        if self._port_taken(code):
            message = f"the server says that port {self.launch.port} is taken; let it use {{{{port}}}}"
            turns = replace(turns, state="failed", error_reason="PortInUse", error=message)
        elif self._wanted and _again(self.launch, code):
            turns = replace(turns, state="restarting")
        self._turn(turns)

    def _words(self) -> tuple[str, ...]:
        return tuple(self.folder.tail(LAST_LINES)[0])

    def _port_taken(self, code: int) -> bool:
        if not self.launch.port or code in {0, KILLED} or not self._wanted:
            return False
        return any(_PORT_TAKEN.search(line) for line in self.folder.tail(LAST_LINES)[0])

    async def _end(self, drain: float) -> None:
        if self.pid is None:
            return
        pid, run = self.pid, self._turns.run_id
        process_table.kill(pid, signal.SIGTERM)
        try:
            async with asyncio.timeout(drain):
                await _gone(pid, run)
        except TimeoutError:
            process_table.kill(pid, signal.SIGKILL)
            await _gone(pid, run)
        self._ended()

    def _turn(self, turns: Turns, *, noted: bool = False) -> None:
        self._turns = turns
        if not noted:
            with suppress(OSError):  # a full disk; what is in memory is still true
                self.folder.note(turns)
        self._changed(self.launch.name)


def is_free(port: int) -> bool:
    """Whether a server could listen on that port of the loopback now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _again(launch: Launch, code: int) -> bool:
    return launch.restart == "Always" or (launch.restart == "OnFailure" and code != 0)


async def _gone(pid: int, run: str) -> None:
    """Until that process has ended. It may be nobody's child of ours, so it is watched, not waited for."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except OSError:  # no such call here
        while process_table.carries(pid, run):  # noqa: ASYNC110 - nobody could set an event
            await asyncio.sleep(POLL_SECONDS)
        return
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
