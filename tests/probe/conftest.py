"""The connection pool that the probes of a test share."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator

import httpx2
import pytest

from toolkeeper.probe.endpoint import make_client


@pytest.fixture(scope="session")
def tls() -> ssl.SSLContext:
    """Built once: it takes longer than everything else in a probe."""
    return ssl.create_default_context()


@pytest.fixture
async def client(tls: ssl.SSLContext) -> AsyncIterator[httpx2.AsyncClient]:
    async with make_client(tls) as shared:
        yield shared
