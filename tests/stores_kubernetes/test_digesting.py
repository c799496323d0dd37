"""The key that all replicas of an operator share."""

from __future__ import annotations

import asyncio
from itertools import count

import pytest

from stores_kubernetes.conftest import Hand, Opening
from toolkeeper.errors import Invalid
from toolkeeper.stores.kubernetes.digesting import NAME, digest_key

pytestmark = pytest.mark.anyio
PATH = f"/api/v1/namespaces/default/secrets/{NAME}"


async def test_replicas_that_start_together_get_the_same_key(opening: Opening, hand: Hand) -> None:
    await hand.client.delete(PATH)
    numbers = count(1)

    def fresh(size: int) -> bytes:
        return bytes([next(numbers)]) * size

    async with opening() as one, opening() as other:
        first, second = await asyncio.gather(
            digest_key(one.api, "default", fresh=fresh), digest_key(other.api, "default", fresh=fresh)
        )
        assert first == second
        assert len(first) == 32
        assert await digest_key(one.api, "default", fresh=fresh) == first


async def test_a_secret_of_that_name_with_something_else_in_it_is_refused(
    opening: Opening, hand: Hand
) -> None:
    await hand.client.delete(PATH)
    await hand.put_secret(NAME, {"key": "too short"})
    async with opening() as store:
        with pytest.raises(Invalid, match="must hold at least 32 random bytes"):
            await digest_key(store.api, "default", fresh=bytes)
    await hand.client.delete(PATH)
