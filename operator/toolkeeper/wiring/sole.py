"""One `up` per control plane: a second one would take its containers over, and remove them at its end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from toolkeeper.errors import Refused
from toolkeeper.stores.lease import FileLease
from toolkeeper.wiring.places import Place


@asynccontextmanager
async def sole(place: Place) -> AsyncIterator[None]:
    """Nobody else looks after this place while the context lasts. Raises Refused at once if somebody does.

    The state directory may be deleted inside: whoever comes next locks another file.
    """
    guard, lease = FileLease(place.folder / "up"), FileLease(place.folder / "lease")
    try:
        for held in (guard, lease):
            if not held.at_once():
                raise Refused(_taken(place, held.path))
        await lease.release()  # the operator inside takes it
        yield
    finally:
        await lease.release()
        await guard.release()


def _taken(place: Place, file: Path) -> str:
    try:
        pid = file.read_text(encoding="utf-8").strip()
    except OSError:
        pid = ""
    who = f"Toolkeeper (process {pid})" if pid else "Toolkeeper"
    return (
        f"another {who} looks after {place.path} already: stop it first, "
        "or look at what it does with 'toolkeeper get servers'"
    )
