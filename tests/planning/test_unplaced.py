"""What status says about a server that belongs to no toolbox."""

from __future__ import annotations

import pytest

from toolkeeper.planning.placement import Placement
from toolkeeper.planning.unplaced import unplaced
from toolkeeper.resources.conditions import find, is_true
from toolkeeper.testing.builders import NOW, make_server


@pytest.mark.parametrize(
    ("reason", "mood"),
    [
        ("WaitingForToolboxes", "Reconciling"),
        ("ToolboxNotFound", "Reconciling"),
        ("ToolboxDraining", "Stalled"),
    ],
)
def test_it_says_whether_waiting_helps(reason: str, mood: str) -> None:
    after = unplaced(make_server(), Placement(None, reason, "why"), NOW)
    assert is_true(after.status.conditions, mood)
    ready = find(after.status.conditions, "Ready")
    assert ready is not None
    assert (ready.status, ready.reason, ready.message) == ("False", reason, "why")


def test_a_server_that_stays_unplaced_is_the_very_same_object() -> None:
    nowhere = Placement(None, "ToolboxNotFound", "why")
    first = unplaced(make_server(), nowhere, NOW)
    assert unplaced(first, nowhere, NOW) is first
    assert unplaced(first, Placement(None, "ToolboxNotFound", "another"), NOW) is not first
