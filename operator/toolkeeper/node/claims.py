"""Who may write: one epoch per installation, the node's own counter, kept across restarts."""

from __future__ import annotations

from collections.abc import Callable
from secrets import randbits

from toolkeeper.errors import Fenced
from toolkeeper.node.notebook import Notebook


def unheard_of() -> int:
    """Where epochs begin: somewhere else on every node that knows none.

    After a wipe, a leader from before it may still hold an epoch. Counting from 1 again would grant it a second time.
    """
    return 1 + randbits(48)


class Claims:
    """The epochs. A claim is a compare-and-swap; whoever holds another epoch is fenced off."""

    def __init__(self, notebook: Notebook, first: Callable[[], int] = unheard_of) -> None:
        self._notebook, self._first = notebook, first
        self._epochs = notebook.epochs()

    def epoch(self, installation: str) -> int:
        """The highest epoch granted; 0 when nobody ever claimed."""
        return self._epochs.get(installation, 0)

    def installations(self) -> frozenset[str]:
        """Who ever claimed this node."""
        return frozenset(self._epochs)

    def claim(self, installation: str, expected: int) -> int:
        """Grant the next epoch to whoever knows the present one. On disk before it is answered. Raises Fenced."""
        present = self.epoch(installation)
        if expected != present:
            raise Fenced(f"the epoch of {installation} is {present}, not {expected}")
        granted = present + 1 if present else self._first()
        self._notebook.keep_epoch(installation, granted)
        self._epochs[installation] = granted
        return granted

    def check(self, installation: str, epoch: int) -> None:
        """Raises Fenced unless `epoch` is the one granted last."""
        present = self.epoch(installation)
        if epoch == 0 or epoch != present:
            raise Fenced(f"the epoch of {installation} is {present}, not {epoch}")
