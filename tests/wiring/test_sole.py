"""Only one `up` looks after a control plane."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from toolkeeper.errors import Refused
from toolkeeper.stores.lease import FileLease
from toolkeeper.wiring.places import Place, forget, place_of, remember, write
from toolkeeper.wiring.sole import sole

pytestmark = pytest.mark.anyio


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return place_of("directory", tmp_path, state_dir=tmp_path / "state", installation="test")


async def test_a_second_up_is_refused_and_told_who_is_there(place: Place) -> None:
    async with sole(place):
        with pytest.raises(Refused, match=rf"process {os.getpid()}\) looks after {place.path}"):
            async with sole(place):
                pytest.fail("two at a time")


async def test_an_up_is_refused_while_an_operator_leads(place: Place) -> None:
    operator = FileLease(place.folder / "lease")
    await operator.acquire()
    with pytest.raises(Refused, match="looks after"):
        async with sole(place):
            pytest.fail("beside an operator")
    await operator.release()
    async with sole(place):
        pass


async def test_the_operator_inside_can_lead(place: Place) -> None:
    async with sole(place):
        inside = FileLease(place.folder / "lease")
        assert inside.at_once()
        await inside.release()


async def test_the_next_one_begins_where_the_last_one_deleted_its_state(place: Place) -> None:
    async with sole(place):
        shutil.rmtree(place.folder)
    async with sole(place):
        pass


async def test_a_standby_that_ends_does_not_hide_who_leads(place: Place) -> None:
    remember(place)
    current = place.root / "current.json"
    write(current, {**json.loads(current.read_text()), "pid": os.getppid()})
    remember(place)
    forget(place)
    assert place_of(None, None, state_dir=place.root).path == place.path
