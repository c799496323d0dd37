"""The processes of this host as Linux shows them under /proc: who lives, and what a session uses."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Session:
    """All processes of one session, added up. Shared pages count once for each, so `memory` errs on the high side."""

    members: tuple[int, ...]
    memory: int
    """Resident bytes."""
    cpu: float
    """Seconds of CPU time of the processes that live now."""


def sessions() -> Mapping[int, Session]:
    """Session id → its processes; zombies are not among them."""
    found: dict[int, list[tuple[int, int, float]]] = {}
    for pid in _pids():
        try:
            # The command's name is in parentheses and may hold anything, so the fields are counted from its end.
            fields = (PROC / str(pid) / "stat").read_bytes().rpartition(b") ")[2].split()
        except OSError:
            continue
        if fields[0] in {b"Z", b"X"}:
            continue
        cpu = (int(fields[11]) + int(fields[12])) / _TICKS
        found.setdefault(int(fields[3]), []).append((pid, int(fields[21]) * _PAGE, cpu))
    return {
        session: Session(
            members=tuple(pid for pid, _, _ in members),
            memory=sum(memory for _, memory, _ in members),
            cpu=sum(cpu for _, _, cpu in members),
        )
        for session, members in found.items()
    }


def find(mark: str) -> int | None:
    """The leader of a session that has `mark` among its arguments, if one lives."""
    return next((pid for pid in _pids() if carries(pid, mark)), None)


def carries(pid: int, mark: str) -> bool:
    """Whether process `pid` lives, leads its session, and has `mark` among its arguments.

    A pid alone proves nothing after a restart of the agent or of the host; a random mark does.
    """
    try:
        arguments = (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
        return mark.encode() in arguments and os.getsid(pid) == pid
    except (OSError, ValueError):
        return False


def kill(session: int, number: signal.Signals) -> None:
    """Send a signal to everything in the session, also to what has its own process group."""
    for pid in sessions().get(session, Session((), 0, 0.0)).members:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _pids() -> Iterator[int]:
    # Path.iterdir would make an object of every process, every second.
    return (int(entry) for entry in os.listdir(PROC) if entry.isdigit())  # noqa: PTH208 - as above
