from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from toolkeeper.reconcile.backoff import Backoff, jittered


@given(st.integers(1, 1000), st.integers())
def test_a_delay_is_never_longer_than_the_cap_nor_shorter_than_the_floor(failures: int, seed: int) -> None:
    backoff = Backoff(first=1.0, cap=60.0, floor=0.1)
    assert 0.1 <= backoff.delay(failures, Random(seed)) <= 60.0


def test_delays_are_spread_over_the_whole_range_so_that_nobody_retries_in_step() -> None:
    rng, backoff = Random(1), Backoff(first=1.0, cap=64.0, floor=0.0)
    delays = [backoff.delay(7, rng) for _ in range(1000)]
    assert min(delays) < 5.0
    assert max(delays) > 59.0


def test_the_ceiling_doubles_with_every_failure() -> None:
    highest = [max(Backoff(floor=0.0).delay(n, Random(seed)) for seed in range(300)) for n in (1, 2, 3)]
    assert [round(each) for each in highest] == [1, 2, 4]


def test_jitter_stays_within_its_share() -> None:
    rng = Random(1)
    assert all(90.0 <= jittered(100.0, rng) <= 110.0 for _ in range(100))
