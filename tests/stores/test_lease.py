"""Leadership by a file lock: one at a time, and free again however its holder ends."""

from __future__ import annotations

# ruff: noqa: ASYNC240 - files of a test are looked at in passing
import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from toolkeeper.errors import Unreachable
from toolkeeper.stores.lease import FileLease

pytestmark = pytest.mark.anyio


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "lease"


def lease(file: Path) -> FileLease:
    return FileLease(file, look_every=0.01)


async def test_two_never_lead_at_once(file: Path) -> None:
    first, second = lease(file), lease(file)
    await first.acquire()
    waiting = asyncio.ensure_future(second.acquire())
    await asyncio.wait([waiting], timeout=0.05)
    assert not waiting.done()
    await first.release()
    await asyncio.wait_for(waiting, 60)
    await second.release()


async def test_who_stands_by_is_told_once_who_leads(file: Path) -> None:
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    leader, standby = lease(file), FileLease(file, look_every=0.01, waiting=told.set_result)
    await leader.acquire()
    waits = asyncio.create_task(standby.acquire())
    assert await told == str(os.getpid())
    await leader.release()
    await waits
    await standby.release()


async def test_acquiring_again_while_leading_returns_at_once(file: Path) -> None:
    leader = lease(file)
    await leader.acquire()
    await asyncio.wait_for(leader.acquire(), 60)
    await leader.release()


async def test_a_released_lease_is_lost(file: Path) -> None:
    leader = lease(file)
    await leader.acquire()
    lost = asyncio.ensure_future(leader.lost())
    await asyncio.wait([lost], timeout=0.03)
    assert not lost.done()
    await leader.release()
    await asyncio.wait_for(lost, 60)


async def test_a_deleted_file_is_a_lost_lease(file: Path) -> None:
    leader, other = lease(file), lease(file)
    await leader.acquire()
    lost = asyncio.ensure_future(leader.lost())
    file.unlink()
    await asyncio.wait_for(other.acquire(), 60)
    await asyncio.wait_for(lost, 60)
    await other.release()


async def test_losing_it_between_is_told_even_when_it_is_acquired_again(file: Path) -> None:
    leader = lease(file)
    await leader.acquire()
    lost = asyncio.ensure_future(leader.lost())
    await asyncio.wait([lost], timeout=0.03)
    file.unlink()
    await leader.acquire()
    await asyncio.wait_for(lost, 60)
    assert not await asyncio.wait_for(lease_is_free(file), 60)
    await leader.release()


async def lease_is_free(file: Path) -> bool:
    other = lease(file)
    try:
        await asyncio.wait_for(other.acquire(), 0.05)
    except TimeoutError:
        return False
    await other.release()
    return True


async def test_a_file_that_cannot_be_made_is_unreachable(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file in the way")
    with pytest.raises(Unreachable, match="cannot be taken"):
        await lease(tmp_path / "state" / "lease").acquire()


def leader(file: Path) -> subprocess.Popen[str]:
    """A process that leads until it is killed, and says so."""
    program = f"""
import asyncio, pathlib
from toolkeeper.stores.lease import FileLease
async def main():
    await FileLease(pathlib.Path({str(file)!r})).acquire()
    print("leading", flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.process
async def test_a_killed_leader_leaves_a_free_lease(file: Path) -> None:
    with leader(file) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "leading\n"
        assert not await lease_is_free(file)
        child.send_signal(signal.SIGKILL)
    follower = lease(file)
    await asyncio.wait_for(follower.acquire(), 60)
    await follower.release()
