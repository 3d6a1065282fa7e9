"""A circuit breaker lets nobody through for a while after a failure, then one probe at a time."""

import pytest

from notpanel.kit.circuit_breaker import CircuitBreaker


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until a test moves it."""

    class Clock:
        now = 1000.0

    monkeypatch.setattr("notpanel.kit.circuit_breaker.time.monotonic", lambda: Clock.now)
    return Clock


def test_a_closed_breaker_lets_everybody_through(clock):
    breaker = CircuitBreaker(10, "redis")

    assert [breaker.lets_through() for _ in range(3)] == [True] * 3
    assert not breaker.is_open


def test_a_tripped_breaker_lets_nobody_through_until_its_rest_is_over(clock):
    breaker = CircuitBreaker(10, "redis")
    breaker.trip()

    assert breaker.is_open
    assert not breaker.lets_through()
    clock.now += 9.9
    assert not breaker.lets_through()
    clock.now += 0.1
    assert breaker.lets_through()


def test_one_caller_is_the_probe_and_the_others_stay_out(clock):
    breaker = CircuitBreaker(10, "redis")
    breaker.trip()
    clock.now += 10

    assert [breaker.lets_through() for _ in range(3)] == [True, False, False]
    assert breaker.is_open


def test_a_probe_that_never_comes_back_is_followed_by_another(clock):
    breaker = CircuitBreaker(10, "redis")
    breaker.trip()
    clock.now += 10
    breaker.lets_through()

    clock.now += 9.9
    assert not breaker.lets_through()
    clock.now += 0.1
    assert breaker.lets_through()


def test_a_probe_that_succeeds_closes_it_for_everybody(clock):
    breaker = CircuitBreaker(10, "redis")
    breaker.trip()
    clock.now += 10
    breaker.lets_through()

    breaker.reset()

    assert not breaker.is_open
    assert [breaker.lets_through() for _ in range(3)] == [True] * 3


def test_a_probe_that_fails_starts_the_rest_anew(clock):
    breaker = CircuitBreaker(10, "redis")
    breaker.trip()
    clock.now += 12
    breaker.lets_through()
    clock.now += 5
    breaker.trip()

    clock.now += 9.9
    assert not breaker.lets_through()
    clock.now += 0.1
    assert breaker.lets_through()
