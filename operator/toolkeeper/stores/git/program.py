"""Running the `git` program: bounded in time and output, in a process group of its own, with settings of ours only."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from toolkeeper.errors import Invalid, Unreachable

OLDEST = (2, 31)
"""The first version that takes settings from the environment; an older one would ignore them without a word."""
LOOK_SECONDS = 0.25
_INHERITED = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "SSH_AUTH_SOCK", "SSL_CERT_FILE", "SSL_CERT_DIR"}
    | {"GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "http_proxy", "https_proxy", "no_proxy", "all_proxy"}
    | {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"}
)
SETTINGS: Mapping[str, str] = {
    # Nothing but what was asked for: no hooks, no submodules, no helpers, no background work.
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "submodule.recurse": "false",
    "fetch.recurseSubmodules": "false",
    "credential.helper": "",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "protocol.allow": "never",
    # A server that moved is named anew by a person; a credential follows nobody.
    "http.followRedirects": "false",
    # A transfer that hangs ends by itself, also when nobody is left to end it.
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "30",
}


class Failed(Exception):
    """git said no. `said` is what it wrote to its error output, made fit to be shown."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.said = said


@dataclass(frozen=True, slots=True)
class Run:
    """What one call may do."""

    settings: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Beside `SETTINGS`. In the environment, never among the arguments: those everybody on the machine can read."""
    environment: Mapping[str, str] = field(default_factory=dict)
    secret: str = field(default="", repr=False)
    """Never shown, whatever git writes."""
    held: tuple[int, ...] = ()
    """Files that the program inherits, with the locks on them."""
    seconds: float = 120.0
    largest: int = 64 * 1024 * 1024
    too_much: Callable[[], str | None] = lambda: None
    """Asked while it runs: why it must end."""


class Git:
    """The program."""

    def __init__(self, program: str = "git", environment: Mapping[str, str] = os.environ) -> None:
        self._program = program
        self._environment = {name: value for name, value in environment.items() if name in _INHERITED}
        self._checked = False

    async def __call__(self, arguments: Sequence[str], run: Run, *, stdin: bytes = b"") -> bytes:
        """Its output. Raises Failed, Unreachable (too slow, too much), Invalid (no git here)."""
        if not self._checked:
            await self._check_version()
            self._checked = True
        return await self._call(arguments, run, stdin)

    async def _check_version(self) -> None:
        said = (await self._call(["version"], Run(seconds=20), b"")).decode(errors="replace").strip()
        found = re.search(r"(\d+)\.(\d+)", said)
        if found is None or (int(found[1]), int(found[2])) < OLDEST:
            raise Invalid(f"git {OLDEST[0]}.{OLDEST[1]} or newer is needed, and this is {said}: upgrade git")

    async def _call(self, arguments: Sequence[str], run: Run, stdin: bytes) -> bytes:
        try:
            process = await self._start(arguments, run)
        except FileNotFoundError as exc:
            raise Invalid(
                "there is no git here: install it, for example with 'apt-get install git', and see that it is on PATH"
            ) from exc
        except OSError as exc:
            raise Unreachable(f"git cannot be started: {exc.strerror}", reason="SourceUnreachable") from exc
        try:
            output, errors = await _finished(process, run, stdin, arguments[0])
        except BaseException:
            _kill(process)  # it may have ended, and a child of it not
            raise
        finally:
            await _ended(process)
        if process.returncode != 0:
            raise Failed(_fit(errors, run.secret) or f"git {arguments[0]} ended with {process.returncode}")
        return output

    async def _start(self, arguments: Sequence[str], run: Run) -> asyncio.subprocess.Process:
        """The running program. Whoever is cancelled meanwhile leaves nothing of it behind.

        asyncio, cancelled here, kills the program alone, and then waits as long as a child of it keeps its output open.
        """
        starting = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                self._program,
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=self._environment | _fixed(run),
                cwd="/",  # not where somebody started us: that may be a repository with settings of its own
                pass_fds=run.held,
                start_new_session=True,
            )
        )
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            with suppress(OSError):
                await _ended(await starting)
            raise


async def _finished(
    process: asyncio.subprocess.Process, run: Run, stdin: bytes, verb: str
) -> tuple[bytes, bytes]:
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.TaskGroup() as tasks:
        output = tasks.create_task(_read(process.stdout, run.largest))
        errors = tasks.create_task(_read(process.stderr, 64 * 1024, rest=True))
        tasks.create_task(_write(process, stdin))
        slow = await _watched({output, errors}, run)
        if slow is not None:
            _kill(process)
    if slow is not None:
        raise Unreachable(f"git {verb} was ended: {slow}", reason="SourceUnreachable")
    found = output.result()
    if found is None:
        raise Unreachable(
            f"git {verb} was ended: it says more than {run.largest // 2**20} MiB", reason="SourceUnreachable"
        )
    with suppress(
        TimeoutError
    ):  # it said all it had to say; one that does not end now is ended by the caller
        async with asyncio.timeout(5.0):
            await process.wait()
    return found, errors.result() or b""


async def _watched(reading: set[asyncio.Task[bytes | None]], run: Run) -> str | None:
    """Wait until the output ends. Why it must not go on, if so."""
    deadline = asyncio.get_running_loop().time() + run.seconds
    waiting = reading
    while waiting:
        done, waiting = await asyncio.wait(waiting, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if any(task.result() is None for task in done):
            return f"it says more than {run.largest // 2**20} MiB"
        if waiting and asyncio.get_running_loop().time() > deadline:
            return f"it took longer than {run.seconds:g} s"
        if waiting and (why := run.too_much()) is not None:
            return why
    return None


async def _read(stream: asyncio.StreamReader, largest: int, *, rest: bool = False) -> bytes | None:
    """Everything; None when it is more than `largest`, unless the `rest` may be dropped."""
    parts: list[bytes] = []
    size = 0
    while part := await stream.read(64 * 1024):
        size += len(part)
        if size <= largest:
            parts.append(part)
        elif not rest:
            return None
    return b"".join(parts)


async def _write(process: asyncio.subprocess.Process, stdin: bytes) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(stdin)
        await process.stdin.drain()
    process.stdin.close()


def _kill(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


async def _ended(process: asyncio.subprocess.Process) -> None:
    """No process of the group is left, also when whoever waits was cancelled."""
    if process.returncode is None:
        _kill(process)
        await asyncio.shield(process.wait())


def _fixed(run: Run) -> dict[str, str]:
    settings = {**SETTINGS, **run.settings}
    environment = {
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",  # answers nothing, so that nobody is asked
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_CONFIG_COUNT": str(len(settings)),
    }
    for index, (key, value) in enumerate(settings.items()):
        environment |= {f"GIT_CONFIG_KEY_{index}": key, f"GIT_CONFIG_VALUE_{index}": value}
    return environment | dict(run.environment)


def _fit(errors: bytes, secret: str) -> str:
    """The lines that say what went wrong, without control characters and without secrets."""
    text = re.sub(r"[^\x20-\x7e\n\u00a0-\uffff]", " ", errors.decode("utf-8", "replace"))
    if secret:
        text = text.replace(secret, "[hidden]")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [
        re.sub(r"^(fatal|error|remote):\s*", "", line).rstrip(".")
        for line in lines
        if not line.startswith(("hint:", "warning:", "Please make sure", "and the repository exists"))
    ]
    return "; ".join(dict.fromkeys(telling))[:400]
