"""The one source of uids and tokens. Stores take them as arguments, so that tests can count instead."""

from __future__ import annotations

import secrets
import uuid


def random_uid() -> str:
    """An id that no other object has or ever had."""
    return str(uuid.uuid4())  # noqa: TID251 - this is where ids come from


def random_token() -> str:
    """256 bits that nobody can guess, as 43 characters that fit into a header."""
    return secrets.token_urlsafe(32)
