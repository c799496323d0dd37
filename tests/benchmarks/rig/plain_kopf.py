"""An operator of plain kopf handlers, as its documentation has them, with its default settings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import kopf

from stores_kubernetes.conftest import Cluster
from toolkeeper.clock import SystemClock
from toolkeeper.planning.instance import Instance
from toolkeeper.reconcile.ports import InstanceRequest
from toolkeeper.testing.fake_toolbox import FakeToolbox

KIND = ("toolkeeper.dev", "v1alpha1", "mcpservers")
DELAY = 1.0
"""Seconds until a handler is called again that was not done. kopf's own default is 60."""
POLL = 0.05
"""Seconds between two questions of a handler that waits itself."""

Answers = Callable[[], Awaitable[bool]]
Wait = Callable[[Answers], Awaitable[None]]


async def calls_again(answers: Answers) -> None:
    """What kopf's documentation recommends (docs.kopf.dev, "Temporary errors"): end, and be called again."""
    if not await answers():
        raise kopf.TemporaryError("it does not answer yet", delay=DELAY)


async def waits_itself(answers: Answers) -> None:
    """What it advises against, for nothing else of that object is heard meanwhile; but nothing is written either."""
    while not await answers():  # noqa: ASYNC110 - nobody tells a plain handler
        await asyncio.sleep(POLL)


@asynccontextmanager
async def running(cluster: Cluster, hosts: Mapping[str, FakeToolbox], wait: Wait) -> AsyncIterator[None]:
    """The operator, ready to hear of servers."""
    claims = {name: await host.claim("bench", 0) for name, host in hosts.items()}
    registry, stop, ready = kopf.OperatorRegistry(), asyncio.Event(), asyncio.Event()

    @kopf.on.login(registry=registry)
    def login(**_: Any) -> kopf.ConnectionInfo:
        return cluster.login()

    @kopf.on.startup(registry=registry)
    def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.peering.standalone = True
        settings.scanning.disabled = True

    @kopf.on.create(*KIND, registry=registry)
    @kopf.on.update(*KIND, registry=registry)
    async def deploy(body: kopf.Body, patch: kopf.Patch, **_: Any) -> None:
        box, name, uid = body.spec["toolboxRef"], str(body.meta.name), str(body.meta.uid)
        instance = Instance(
            renderer=1, transport="streamable-http", image=str(body.spec["image"]), port=8000, path="/mcp"
        )
        container = f"plain_{name}"
        request = InstanceRequest("default", name, "v1", uid, instance)
        await hosts[box].create(claims[box], container, request)
        await wait(lambda: _answers(hosts[box], container))
        patch.status["observedGeneration"] = body.meta["generation"]
        patch.status["phase"] = "active"
        patch.status["toolbox"] = f"default/{box}"
        patch.status["conditions"] = [_condition(each, body) for each in ("Deployed", "Reachable", "Ready")]
        kopf.info(body, reason="Ready", message=f"runs on {box}")

    @kopf.on.delete(*KIND, registry=registry)
    async def remove(**_: Any) -> None:
        return

    operator = kopf.operator(registry=registry, clusterwide=True, stop_flag=stop, ready_flag=ready)
    task = asyncio.create_task(operator)
    await ready.wait()
    yield
    stop.set()
    with suppress(asyncio.CancelledError):
        await task


async def _answers(host: FakeToolbox, container: str) -> bool:
    seen = await host.state("bench")
    return any(
        each.name == container and each.handshake is not None and each.handshake.ok
        for each in seen.containers
    )


def _condition(type: str, body: kopf.Body) -> dict[str, Any]:
    return {
        "type": type,
        "status": "True",
        "reason": "Available",
        "message": "",
        "lastTransitionTime": SystemClock().now().strftime("%Y-%m-%dT%H:%M:%SZ"),
        "observedGeneration": body.meta["generation"],
    }
