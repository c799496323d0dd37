"""Where a folder of manifests comes from, when it is a copy of something that people edit elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from toolkeeper.reconcile.ports import Problem


class Origin(Protocol):
    """What the directory store must know of it."""

    @property
    def name(self) -> str:
        """What people call the folder."""
        ...

    def revision(self, folder: Path) -> str:
        """What people call the state that the folder, with all links resolved, is a copy of."""
        ...

    def problems(self) -> tuple[Problem, ...]:
        """Why the copy may be older than what it is a copy of. What it says stays in force."""
        ...
