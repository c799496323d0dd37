"""The ASGI application of a node."""

from __future__ import annotations

import functools
from collections.abc import Callable

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from toolkeeper import __version__
from toolkeeper.clock import Clock
from toolkeeper.node import faults, routes
from toolkeeper.node.front import Front
from toolkeeper.node.gate import Gate
from toolkeeper.node.node import Node
from toolkeeper.telemetry.logs import Log


@functools.cache
def make_api() -> FastAPI:
    """The routes alone, without gate and node: enough for the OpenAPI document.

    Slow to make and the same for every node, hence made once: a request brings its node along.
    """
    app = FastAPI(
        title="Toolkeeper node",
        summary="Runs and observes MCP servers on one host.",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    faults.install(app)
    app.include_router(routes.health)
    app.include_router(routes.api)
    return app


def make_app(node: Node, *, gate: Gate, clock: Clock, new_id: Callable[[], str], log: Log) -> ASGIApp:
    """The application as it is served. `node` is opened and closed by whoever serves it."""
    api = make_api()

    async def of_this_node(scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["node"] = node
        await api(scope, receive, send)

    return Front(of_this_node, gate=gate, tally=node.tally, clock=clock, new_id=new_id, log=log)
