"""Whether the agent of each connection has a token. Looked at again now and then, for somebody may delete it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from toolkeeper.clock import Clock
from toolkeeper.errors import Refused, ToolkeeperError, Unreachable
from toolkeeper.planning.connections import Answer
from toolkeeper.reconcile.ports import Store
from toolkeeper.reconcile.recorder import Recorder
from toolkeeper.resources.agentconnection import AgentConnection
from toolkeeper.resources.meta import Key

LOOK_EVERY = 60.0
"""Seconds between looks at a token: how long a deleted one is missed at most, about."""
PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class _Look:
    secret: tuple[str, str]
    """(uid of the connection, name of the secret)."""
    answer: Answer
    at: float


class Tokens:
    """Asks the store to issue them, and remembers what it said."""

    def __init__(self, store: Store, recorder: Recorder, clock: Clock) -> None:
        self._store, self._recorder, self._clock = store, recorder, clock
        self._looks: dict[Key, _Look] = {}

    async def answer(self, connection: AgentConnection) -> Answer | None:
        """What status says about the token; None where the agent is not to have one."""
        spec, meta, now = connection.spec, connection.metadata, self._clock.monotonic()
        ended = spec.expires_at is not None and spec.expires_at <= self._clock.now()
        if not spec.active or ended or meta.deletion_timestamp is not None:
            self.forget(connection.key)
            return None
        secret = (meta.uid, connection.token_secret)
        known = self._looks.get(connection.key)
        if known is not None and known.secret == secret and now - known.at < LOOK_EVERY / 2:
            return known.answer
        before = known.answer if known is not None and known.secret == secret else None
        answer = await self._issue(connection, before)
        self._looks[connection.key] = _Look(secret, answer, now)
        return answer

    def forget(self, key: Key) -> None:
        """The connection is gone, or its agent is not to come in."""
        self._looks.pop(key, None)

    async def _issue(self, connection: AgentConnection, before: Answer | None) -> Answer:
        try:
            async with asyncio.timeout(PATIENCE):
                made = await self._store.issue_token(connection)
        except Refused as exc:
            return "False", exc.reason, str(exc)
        except (ToolkeeperError, TimeoutError) as exc:
            # Not knowing is not the same as gone.
            reason = exc.reason if isinstance(exc, Unreachable) else "StoreUnreachable"
            return before or ("Unknown", reason, f"the token cannot be looked at now: {exc}")
        if made:
            self._recorder.issued(connection)
        return "True", "Issued", f"key token of the secret {connection.token_secret}"
