"""The port that Kubernetes, systemd and Prometheus ask."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter

from toolkeeper.errors import Invalid
from toolkeeper.wiring.port import STUCK_SECONDS, Beat, Vitals, serving

pytestmark = pytest.mark.anyio


@dataclass
class Held:
    """A clock that goes where it is put, and what is wrong besides."""

    at: float = 100.0
    wrong: dict[str, str] = field(default_factory=dict)

    def monotonic(self) -> float:
        return self.at

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    @property
    def vitals(self) -> Vitals:
        return Vitals(lambda: self.wrong.get("dead", ""), lambda: self.wrong.get("unready", ""))


async def ask(beat: Beat, path: str, host: str = "127.0.0.1") -> tuple[int, str]:
    async with httpx.AsyncClient(trust_env=False, verify=False) as client:
        answer = await client.get(f"http://{host}:{beat.port}{path}")
        return answer.status_code, answer.text.strip()


async def test_a_loop_that_turns_is_healthy_and_ready() -> None:
    async with serving("127.0.0.1:0", CollectorRegistry(), clock=Held()) as beat:
        assert await ask(beat, "/healthz") == (200, "ok")
        assert await ask(beat, "/readyz") == (200, "ok")


async def test_a_loop_that_hangs_is_neither_until_it_turns_again() -> None:
    held = Held()
    async with serving("127.0.0.1:0", CollectorRegistry(), clock=held) as beat:
        held.at += STUCK_SECONDS + 1
        assert await ask(beat, "/healthz") == (503, "the event loop had no turn for 31 s")
        assert (await ask(beat, "/readyz"))[0] == 503
        beat.beat()
        assert await ask(beat, "/healthz") == (200, "ok")


async def test_a_process_that_must_be_replaced_is_unhealthy_and_says_why() -> None:
    held = Held(wrong={"dead": "the watch is dead"})
    async with serving("127.0.0.1:0", CollectorRegistry(), held.vitals, clock=held) as beat:
        assert await ask(beat, "/healthz") == (503, "the watch is dead")


async def test_who_still_lists_is_healthy_and_not_ready() -> None:
    held = Held(wrong={"unready": "the resources were not listed yet"})
    async with serving("127.0.0.1:0", CollectorRegistry(), held.vitals, clock=held) as beat:
        assert await ask(beat, "/healthz") == (200, "ok")
        assert await ask(beat, "/readyz") == (503, "the resources were not listed yet")


async def test_metrics_are_served_on_every_interface_if_only_a_port_is_named() -> None:
    registry = CollectorRegistry()
    Counter("toolkeeper_things", "Things.", registry=registry).inc()
    async with serving(":0", registry, clock=Held()) as beat:
        for host in ("127.0.0.1", *(["[::1]"] if socket.has_dualstack_ipv6() else [])):
            status, text = await ask(beat, "/metrics", host)
            assert status == 200
            assert "toolkeeper_things_total 1.0" in text


async def test_somebody_who_connects_and_says_nothing_keeps_nobody_waiting() -> None:
    async with serving("127.0.0.1:0", CollectorRegistry(), clock=Held()) as beat:
        _, silent = await asyncio.open_connection("127.0.0.1", beat.port)
        async with asyncio.timeout(5):
            assert await ask(beat, "/healthz") == (200, "ok")
        silent.close()


@pytest.mark.parametrize("address", ["8080", "127.0.0.1:http", "127.0.0.1:99999", "no such host:1"])
async def test_an_address_that_cannot_be_had_is_refused_with_its_form(address: str) -> None:
    with pytest.raises(Invalid, match=r"--health-address .*; give HOST:PORT"):
        async with serving(address, CollectorRegistry()):
            pass
