"""What the loop knows of the tokens of agents."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from toolkeeper.errors import Refused, Unreachable
from toolkeeper.reconcile.recorder import Recorder, Telemetry
from toolkeeper.reconcile.tokens import LOOK_EVERY, Tokens
from toolkeeper.resources.agentconnection import AgentConnection, AgentConnectionSpec
from toolkeeper.resources.meta import Metadata
from toolkeeper.stores.memory import MemoryStore
from toolkeeper.testing.builders import NOW

pytestmark = pytest.mark.anyio


class HandClock:
    """Time passes when a test says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> Any:
        return NOW + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


class Store(MemoryStore):
    """Counts, and fails when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.failure: Exception | None = None

    async def issue_token(self, connection: AgentConnection) -> bool:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        return await super().issue_token(connection)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def store() -> Store:
    return Store()


@pytest.fixture
async def tokens(store: Store, clock: HandClock) -> Tokens:
    return Tokens(store, Recorder(Telemetry(), clock), clock)


async def declared(store: Store, **spec: Any) -> AgentConnection:
    given = AgentConnectionSpec.model_validate({"agent": "ada", "serverRef": "time", **spec})
    applied = await store.apply(AgentConnection(metadata=Metadata(name="ada"), spec=given))
    assert isinstance(applied, AgentConnection)
    return applied


async def test_a_connection_gets_a_token_that_status_names_and_does_not_show(
    tokens: Tokens, store: Store
) -> None:
    answer = await tokens.answer(await declared(store))
    assert answer == ("True", "Issued", "key token of the secret ada-token")
    assert store.token("default", "ada-token") not in str(answer)


async def test_it_is_looked_at_now_and_then_and_made_again(
    tokens: Tokens, store: Store, clock: HandClock
) -> None:
    resource = await declared(store)
    await tokens.answer(resource)
    first = store.token("default", "ada-token")
    store.drop_token("default", "ada-token")
    await tokens.answer(resource)
    assert store.asked == 1
    clock.seconds += LOOK_EVERY
    await tokens.answer(resource)
    assert store.token("default", "ada-token") != first


@pytest.mark.parametrize("spec", [{"active": False}, {"expiresAt": NOW}], ids=["switched-off", "expired"])
async def test_an_agent_that_is_not_let_in_gets_none(
    spec: dict[str, Any], tokens: Tokens, store: Store
) -> None:
    assert await tokens.answer(await declared(store, **spec)) is None
    assert store.asked == 0


async def test_a_refusal_is_said_with_its_reason(tokens: Tokens, store: Store) -> None:
    store.failure = Refused("cannot create secrets", reason="Forbidden")
    assert await tokens.answer(await declared(store)) == ("False", "Forbidden", "cannot create secrets")


async def test_a_silent_store_takes_nothing_back(tokens: Tokens, store: Store, clock: HandClock) -> None:
    resource = await declared(store)
    known = await tokens.answer(resource)
    clock.seconds += LOOK_EVERY
    store.failure = Unreachable("no answer", reason="StoreUnreachable")
    assert await tokens.answer(resource) == known


async def test_another_name_is_another_secret(tokens: Tokens, store: Store) -> None:
    await tokens.answer(await declared(store))
    await tokens.answer(await declared(store, tokenSecretRef="other"))
    assert store.token("default", "other") != store.token("default", "ada-token")
