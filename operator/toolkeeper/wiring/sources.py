"""The stores that commands open, and how much of one they look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from toolkeeper.stores.directory import DirectoryStore
from toolkeeper.stores.local import WithLocalToolbox
from toolkeeper.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from toolkeeper.stores.kubernetes.visit import Visit

Kept = DirectoryStore | SqliteStore
Source: TypeAlias = "WithLocalToolbox | Kept | Visit"


class Scope(NamedTuple):
    """What of a cluster a command looks at; none: all. Other stores show everything."""

    namespaces: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
