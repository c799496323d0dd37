"""How a credential is shown: the value of the `Authorization` header."""

from __future__ import annotations

import re

_SENDABLE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?")
"""What RFC 9110 lets a header's value be, but for bytes beyond ASCII, of which nobody knows the meaning."""
_HAS_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9!#$%&'*+.^_`|~-]*[ ]+\S")


def authorization(credential: str) -> str | None:
    """The header's value; None if no header can carry it. White space around it, as files end with, is left out.

    A bearer token has no space in it (RFC 6750), so what has one names its scheme already.
    """
    value = credential.strip()
    if not _SENDABLE.fullmatch(value):
        return None
    return value if _HAS_SCHEME.match(value) else f"Bearer {value}"
