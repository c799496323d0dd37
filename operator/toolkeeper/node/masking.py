"""Known secret values do not leave the host in logs or messages."""

from __future__ import annotations

import re
from collections.abc import Iterable

SHORTEST = 4
"""Characters; a shorter value would mask half of the alphabet, and its place would tell it anyway."""
MASK = "••••"


class Mask:
    """Replaces exact values. A value of several lines is masked line by line as well: that is how logs show it."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self.values = frozenset(values)
        pieces = {piece.strip() for value in self.values for piece in (value, *value.splitlines())}
        # The longest first, so that a value which contains another is masked whole.
        known = sorted((piece for piece in pieces if len(piece) >= SHORTEST), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(self, text: str) -> str:
        return self._pattern.sub(MASK, text) if self._pattern else text
