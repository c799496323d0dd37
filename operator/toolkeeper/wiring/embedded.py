"""The node agent inside `toolkeeper up`, served on loopback for as long as it lasts."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from toolkeeper.clock import SystemClock
from toolkeeper.node.choosing import Needs
from toolkeeper.node.main import Serving, serving
from toolkeeper.node.settings import NodeSettings, settings_from
from toolkeeper.telemetry.logs import Log
from toolkeeper.wiring.places import LocalNode, Place, keep_local_node

Choice = Literal["auto", "docker", "process"]


@asynccontextmanager
async def embedded(
    place: Place,
    runtime: Choice,
    needs: Needs,
    *,
    port: int,
    log: Log,
    environ: Mapping[str, str] = os.environ,
) -> AsyncIterator[tuple[Serving, LocalNode]]:
    """A node of this place's own, on `port` of loopback, or on a free one when that is taken.

    Raises what says why the runtime that was named cannot be used.
    """
    settings = _settings(place, runtime, port if _free(port) else 0, environ)
    async with serving(settings, clock=SystemClock(), environ=environ, log=log, needs=needs) as up:
        keep_local_node(place, up.endpoint, up.tokens)
        yield up, LocalNode(up.endpoint, up.tokens, os.getpid())


def _settings(place: Place, runtime: Choice, port: int, environ: Mapping[str, str]) -> NodeSettings:
    home = environ.get("XDG_CACHE_HOME", "")
    cache = (Path(home) if home else Path.home() / ".cache") / "toolkeeper" / "environments"
    daemon = environ.get("DOCKER_HOST", "")
    return settings_from(
        environ,
        state_dir=place.folder / "node",
        cache_dir=cache,
        host="127.0.0.1",
        port=port,
        runtime=runtime,
        docker_socket=daemon.removeprefix("unix://") if daemon.startswith("unix://") else None,
    )


def _free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
