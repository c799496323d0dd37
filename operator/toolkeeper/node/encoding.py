"""The state as JSON, put together from pieces that stay the same while only ages move on."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import TypeAdapter

from toolkeeper.dtma.wire import SNAPSHOT
from toolkeeper.planning.observed import Container, Snapshot

Pieces = tuple[bytes, bytes]

_CONTAINER: TypeAdapter[Container] = TypeAdapter(Container)
# Inside a JSON string a quote is escaped, so neither mark can occur in a value.
_AGE = b'"age":0.0'
_CONTAINERS = b'"containers":[]'


def around_age(container: Container) -> Pieces:
    """The container as JSON, before and after the number of its age. `container.age` must be 0."""
    before, _, after = _CONTAINER.dump_json(container).partition(_AGE)
    return before + b'"age":', after


def around_containers(snapshot: Snapshot) -> Pieces:
    """The snapshot as JSON, before and after its containers. It must have none."""
    before, _, after = SNAPSHOT.dump_json(snapshot).partition(_CONTAINERS)
    return before + b'"containers":[', b"]" + after


def joined(head: Pieces, containers: Iterable[tuple[Pieces, float]]) -> bytes:
    """The whole."""
    body = b",".join(b"%b%.3f%b" % (before, age, after) for (before, after), age in containers)
    return head[0] + body + head[1]
