from __future__ import annotations

from toolkeeper.reconcile.breaker import Breaker


def opened() -> Breaker:
    return Breaker(2).failed(0.0, 10.0).failed(1.0, 10.0)


def test_it_opens_only_after_its_threshold_of_failures_in_a_row() -> None:
    once = Breaker(2).failed(0.0, 10.0)
    assert once.admits(0.0)
    assert once.succeeded().failed(1.0, 10.0).admits(1.0)
    assert not once.failed(1.0, 10.0).admits(1.0)


def test_it_says_how_long_it_stays_open() -> None:
    assert opened().state(5.0) == "open"
    assert opened().waits(5.0) == 6.0


def test_after_the_pause_it_admits_a_trial() -> None:
    assert opened().state(11.0) == "half open"
    assert opened().admits(11.0)
    assert opened().waits(11.0) == 0.0


def test_a_failed_trial_opens_it_again_and_a_good_one_closes_it() -> None:
    assert not opened().failed(11.0, 10.0).admits(12.0)
    assert opened().succeeded().state(12.0) == "closed"


def test_a_breaker_that_never_failed_is_left_as_it_is() -> None:
    breaker = Breaker()
    assert breaker.succeeded() is breaker
