"""What the kernel's tables of sockets say about who can reach a server."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolkeeper.node.docker.listening import on_loopback_only

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
PORT = 0x1F40
ANYWHERE = "00000000000000000000000000000000"


def verdict(proc: Path, *, tcp: str = "", tcp6: str = "") -> bool | None:
    """Of process 7, whose tables hold these lines."""
    folder = proc / "7" / "net"
    folder.mkdir(parents=True)
    for name, lines in {"tcp": tcp, "tcp6": tcp6}.items():
        (folder / name).write_text(HEADER + lines)
    return on_loopback_only(7, PORT, proc)


@pytest.mark.parametrize("address", ["0100007F", "0B00007F"])
def test_a_listener_on_loopback_is_reached_by_nobody_else(address: str, tmp_path: Path) -> None:
    assert verdict(tmp_path, tcp=f"0: {address}:1F40 00000000:0000 0A") is True


@pytest.mark.parametrize("address", ["00000000000000000000000001000000", "0000000000000000FFFF00000B00007F"])
def test_nor_is_one_on_loopback_in_ipv6s_notation(address: str, tmp_path: Path) -> None:
    assert verdict(tmp_path, tcp6=f"0: {address}:1F40 {ANYWHERE}:0000 0A") is True


@pytest.mark.parametrize("address", [ANYWHERE, "0000000000000000FFFF0000020011AC"])
def test_one_listener_elsewhere_is_enough(address: str, tmp_path: Path) -> None:
    loopback = "0: 0100007F:1F40 00000000:0000 0A"
    assert verdict(tmp_path, tcp=loopback, tcp6=f"0: {address}:1F40 {ANYWHERE}:0000 0A") is False


@pytest.mark.parametrize(
    "lines", ["", "0: 0100007F:1F40 0100007F:D431 01", "0: 0100007F:1F41 00000000:0000 0A"],
    ids=["nothing", "a connection", "another port"],
)  # fmt: skip
def test_nothing_is_said_of_a_port_that_nobody_listens_on(lines: str, tmp_path: Path) -> None:
    assert verdict(tmp_path, tcp=lines) is None


def test_nothing_is_said_of_a_process_that_is_gone(tmp_path: Path) -> None:
    assert on_loopback_only(7, PORT, tmp_path) is None
