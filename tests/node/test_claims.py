from __future__ import annotations

from pathlib import Path

import pytest

from toolkeeper.errors import Fenced, Unreachable
from toolkeeper.node.claims import Claims
from toolkeeper.node.notebook import Notebook, Page
from toolkeeper.planning.observed import Handshake


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


def test_on_a_full_disk_nobody_leads_anew_and_handshakes_count_all_the_same(tmp_path: Path) -> None:
    notebook = Notebook(tmp_path / "notes")
    claims = Claims(notebook)
    held = claims.claim("test", 0)
    notebook._db.execute("PRAGMA max_page_count = 1")  # SQLite's own full disk
    notebook.keep_page(
        "tk_test_default_time_00000000", Page("run", Handshake(True, "Reachable"), ({"n": "x" * 9999},))
    )
    notebook.forget("tk_test_default_time_00000000")

    def all_claim() -> None:
        for number in range(2000):
            claims.claim(f"test{number}", 0)

    with pytest.raises(Unreachable, match="check that disk's space"):
        all_claim()
    claims.check("test", held)
