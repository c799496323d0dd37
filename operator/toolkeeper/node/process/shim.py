"""How a server becomes a child process that outlives the agent.

It gets a session of its own, files for output, and a small shell in front that writes down how it ended, because after
a restart of the agent nobody is left who could wait for it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# Arguments: folder, run, nofile, directory, then the server's own. Nothing from outside is ever part of the script.
# The traps keep the shell alive until the server has ended, whatever the group is sent (but SIGKILL).
_SCRIPT = """
folder=$1 run=$2
trap : TERM INT HUP
umask 077
ulimit -n "$3" 2>/dev/null
cd "$4" || exit 126
shift 4
"$@"
code=$?
trap '' TERM INT HUP
echo "$run $code" > "$folder/exit.new" && mv "$folder/exit.new" "$folder/exit"
exit "$code"
"""
KILLED = 137
"""The exit code of what had no time to write one: it was killed."""


@dataclass(frozen=True, slots=True)
class Run:
    """One start of one server."""

    id: str
    """Random. Among the shell's arguments, so that the process can be recognised."""
    folder: Path
    argv: Sequence[str]
    env: Mapping[str, str]
    directory: Path
    nofile: int
    stdin: Path | None
    """A FIFO for a stdio server; None: no input."""
    stdout: Path
    stderr: Path


def spawn(run: Run) -> int:
    """Start it; its pid, which is also its session. Raises OSError."""
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    # The FIFO is opened for both directions: the server then never sees its end, also while no agent runs.
    stdin = (os.POSIX_SPAWN_OPEN, 0, str(run.stdin or os.devnull), os.O_RDWR if run.stdin else os.O_RDONLY, 0)
    return os.posix_spawn(
        "/bin/sh",
        [
            "sh",
            "-c",
            _SCRIPT,
            "toolkeeper",
            str(run.folder),
            run.id,
            str(run.nofile),
            str(run.directory),
            *run.argv,
        ],
        dict(run.env),
        file_actions=[
            stdin,
            (os.POSIX_SPAWN_OPEN, 1, str(run.stdout), append, 0o600),
            (os.POSIX_SPAWN_OPEN, 2, str(run.stderr), append, 0o600),
        ],
        setsid=True,
        setsigmask=[],
        setsigdef=[signal.SIGPIPE, signal.SIGINT, signal.SIGHUP, signal.SIGTERM],
    )


def exit_code(folder: Path, run: str) -> int:
    """How that run ended, as the shell wrote it down; KILLED when it could not."""
    try:
        ended, _, code = (folder / "exit").read_text().strip().partition(" ")
        return int(code) if ended == run else KILLED
    except (OSError, ValueError):
        return KILLED


def reap(pid: int) -> None:
    """Let go of a child of ours that has ended; one that was adopted is its new parent's."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
