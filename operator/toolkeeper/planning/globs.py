"""Globs over names, as grants and namespaces use them: `*`, `?`, `[…]`; upper and lower case differ."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase


def admits(globs: Iterable[str], name: str) -> bool:
    """Whether any of the globs matches; none admits nothing."""
    return any(fnmatchcase(name, glob) for glob in globs)
