"""Where what is slow to make is kept between runs: outside the checkout, so that a fresh clone finds it."""

from __future__ import annotations

import os
from pathlib import Path


def folder() -> Path:
    """The folder, made if need be."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(base) / "toolkeeper"
    path.mkdir(parents=True, exist_ok=True)
    return path
