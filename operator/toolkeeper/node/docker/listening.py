"""Where a process listens, from the tables of its network namespace."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

LISTEN: Final = "0A"
LOOPBACK_6: Final = "00000000000000000000000001000000"
MAPPED_4: Final = "0000000000000000FFFF0000"
"""An IPv4 address in IPv6's notation begins so."""


def on_loopback_only(pid: int, port: int, proc: Path = Path("/proc")) -> bool | None:
    """Whether that port is listened on, and on loopback only; None when nobody listens or nothing can be read."""
    try:
        tables = [proc / str(pid) / "net" / name for name in ("tcp", "tcp6")]
        text = "\n".join(table.read_text() for table in tables if table.exists())
    except OSError:
        return None
    addresses = list(listeners(text.splitlines(), port))
    return all(map(_is_loopback, addresses)) if addresses else None


def listeners(lines: Iterable[str], port: int) -> Iterable[str]:
    """The local addresses, in the kernel's hexadecimal, on which that port is listened on."""
    for line in lines:
        columns = line.split()
        if len(columns) > 3 and columns[3] == LISTEN:
            address, _, number = columns[1].rpartition(":")
            if int(number, 16) == port:
                yield address


def _is_loopback(address: str) -> bool:
    # Words are little-endian here: 127.0.0.1 is 0100007F, and all of 127.0.0.0/8 is loopback.
    v4 = len(address) == 8 or address.startswith(MAPPED_4)
    return address.endswith("7F") if v4 else address == LOOPBACK_6
