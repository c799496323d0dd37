"""What happened, kept in the state database: events of resources, and the control actions that were taken.

Both are rings: the newest are kept, and reading them never decides anything.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from toolkeeper.resources.events import Event
from toolkeeper.resources.meta import Key

EVENTS = 1000
ACTIONS = 10_000


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event as it was kept. Saying it again raises its count and moves it to the end."""

    event: Event
    count: int
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Action:
    """One control action: who did what to which object, why, and what came of it."""

    key: Key
    action: str
    """`create`, `remove`, `restart`, `pause`, …"""
    because: str
    actor: str = "operator"
    outcome: Literal["accepted", "refused", "unreachable"] = "accepted"
    at: datetime | None = None


def keep_event(connection: sqlite3.Connection, event: Event, at: datetime) -> None:
    """Add the event; one that was said before moves to the end with its count raised, so flapping fills no ring."""
    saying = (*event.key, event.uid, event.type, event.reason, event.message)
    before = connection.execute(
        """DELETE FROM events
           WHERE (kind, namespace, name, uid, type, reason, message) = (?, ?, ?, ?, ?, ?, ?)
           RETURNING count, first_at""",
        saying,
    ).fetchone()
    count, first_at = before or (0, at.isoformat())
    connection.execute(
        """INSERT INTO events (kind, namespace, name, uid, type, reason, message, count, first_at, last_at)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        (*saying, count + 1, first_at, at.isoformat()),
    )
    connection.execute(
        "DELETE FROM events WHERE id <= (SELECT id FROM events ORDER BY id DESC LIMIT 1 OFFSET ?)", (EVENTS,)
    )


def was_said(connection: sqlite3.Connection, event: Event) -> bool:
    """Whether this very event is among those kept."""
    said = (*event.key, event.uid, event.type, event.reason, event.message)
    return bool(
        connection.execute(
            """SELECT 1 FROM events
               WHERE (kind, namespace, name, uid, type, reason, message) = (?, ?, ?, ?, ?, ?, ?)""",
            said,
        ).fetchone()
    )


def events(connection: sqlite3.Connection, key: Key | None, limit: int) -> tuple[Recorded, ...]:
    """The newest `limit` events, of one object or of all, oldest first."""
    condition = "" if key is None else "WHERE (kind, namespace, name) = (?, ?, ?)"
    rows = connection.execute(
        f"SELECT * FROM events {condition} ORDER BY id DESC LIMIT ?",  # noqa: S608 - a constant
        (*(key or ()), limit),
    ).fetchall()
    return tuple(_recorded(row) for row in reversed(rows))


def _recorded(
    row: tuple[int, str, str, str, str, Literal["Normal", "Warning"], str, str, int, str, str],
) -> Recorded:
    _, kind, namespace, name, uid, type, reason, message, count, first, last = row
    last_at = datetime.fromisoformat(last)
    event = Event(Key(kind, namespace, name), type, reason, message, uid=uid, at=last_at)
    return Recorded(event, count, datetime.fromisoformat(first), last_at)


def keep_action(connection: sqlite3.Connection, action: Action, at: datetime) -> None:
    """Add the action."""
    connection.execute(
        """INSERT INTO actions (at, actor, kind, namespace, name, action, because, outcome)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
        (at.isoformat(), action.actor, *action.key, action.action, action.because, action.outcome),
    )
    connection.execute("DELETE FROM actions WHERE id <= (SELECT max(id) FROM actions) - ?", (ACTIONS,))


def actions(connection: sqlite3.Connection, key: Key | None, limit: int) -> tuple[Action, ...]:
    """The newest `limit` actions, on one object or on all, oldest first."""
    condition = "" if key is None else "WHERE (kind, namespace, name) = (?, ?, ?)"
    rows = connection.execute(
        f"SELECT * FROM actions {condition} ORDER BY id DESC LIMIT ?",  # noqa: S608 - a constant
        (*(key or ()), limit),
    ).fetchall()
    return tuple(
        Action(Key(kind, namespace, name), action, because, actor, outcome, datetime.fromisoformat(at))
        for _, at, actor, kind, namespace, name, action, because, outcome in reversed(rows)
    )
