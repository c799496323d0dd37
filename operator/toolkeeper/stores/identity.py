"""The one source of uids. Stores take it as an argument, so that tests and the simulation can count instead."""

from __future__ import annotations

import uuid


def random_uid() -> str:
    """An id that no other object has or ever had."""
    return str(uuid.uuid4())  # noqa: TID251 - this is where ids come from
