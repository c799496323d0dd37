from __future__ import annotations

from pathlib import Path

import pytest

from toolkeeper.errors import Fenced
from toolkeeper.node.claims import Claims
from toolkeeper.node.notebook import Notebook


def test_a_wiped_node_never_grants_an_epoch_that_a_former_leader_still_holds(tmp_path: Path) -> None:
    before, after = Claims(Notebook(tmp_path / "before")), Claims(Notebook(tmp_path / "after"))
    held = before.claim("test", 0)
    after.claim("test", 0)
    with pytest.raises(Fenced):
        after.check("test", held)


def test_each_claim_fences_the_one_before(tmp_path: Path) -> None:
    claims = Claims(Notebook(tmp_path / "notes"), first=lambda: 7)
    assert [claims.claim("test", 0), claims.claim("test", 7), claims.epoch("test")] == [7, 8, 8]
    with pytest.raises(Fenced):
        claims.check("test", 7)
