"""Connections to one daemon, kept and given back. Two habits of the SDK's own transport are not ours:

it keeps a pool for each path and drops the 26th, and it forgets a socket that could not be connected.
"""

from __future__ import annotations

import socket
from typing import Any

from docker.transport import UnixHTTPAdapter
from docker.transport.unixconn import UnixHTTPConnection, UnixHTTPConnectionPool

DAEMON = "http+docker://localhost"


class OneDaemon(UnixHTTPAdapter):
    """The transport of a session that talks to one daemon only."""

    def __init__(self, url: str, timeout: int, *, max_pool_size: int) -> None:
        super().__init__(url, timeout, max_pool_size=max_pool_size)
        self._pool = _Pool(DAEMON, self.socket_path, timeout, max_pool_size)

    def get_connection(self, url: str | bytes, proxies: object = None) -> Any:
        return self._pool

    def close(self) -> None:
        super().close()
        self._pool.close()


class _Pool(UnixHTTPConnectionPool):
    def _new_conn(self) -> Any:
        seconds: Any = self.timeout  # urllib3 and the SDK mean different things by it
        return _Connection(self.base_url, self.socket_path, seconds)


class _Connection(UnixHTTPConnection):
    def connect(self) -> None:
        connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connecting.settimeout(self.timeout)
            connecting.connect(self.unix_socket)
        except OSError:
            connecting.close()
            raise
        self.sock = connecting
