"""The burst of pings: how many, how often, and what the missing answers tell."""

from __future__ import annotations

import pytest

from salt_exporter.errors import SourceError
from salt_exporter.probes import burst as module
from salt_exporter.probes.burst import Burst

TIMEOUT = 5.0
EVERY = 300.0


class Clock:
    """Time that passes when told to, and what was sent meanwhile."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sent: list[float] = []

    def monotonic(self) -> float:
        """Return the time."""
        return self.now

    def send(self, asked: float) -> None:
        """Take a ping."""
        self.sent.append(asked)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock that a burst looks at."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def after(clock: Clock, burst: Burst, seconds: float) -> int:
    """Let time pass, and return how many pings are due then."""
    clock.sent.clear()
    clock.now += seconds
    burst.send_if_due(clock)
    return len(clock.sent)


def test_healthy_workers_are_asked_seldom(clock: Clock) -> None:
    """One ping for each worker, all different, and again after five minutes."""
    burst = Burst(lambda: 5, TIMEOUT)
    assert burst.stuck is None
    assert 5 == after(clock, burst, 0)
    assert 5 == len(set(clock.sent))
    assert burst.stuck is None
    assert all(burst.take(asked) for asked in clock.sent)
    assert 0 == burst.stuck
    assert [0, 5] == [after(clock, burst, EVERY - 1), after(clock, burst, 1)]
    assert 0 == burst.stuck  # as before, until the answers are due
    clock.now += TIMEOUT
    assert 5 == burst.stuck


def test_stuck_workers_are_asked_less_and_less(clock: Clock) -> None:
    """What a stuck worker does not answer stays in its queue, so the pause doubles, up to an hour."""
    burst = Burst(lambda: 2, TIMEOUT)
    assert 2 == after(clock, burst, 0)
    times = [second for second in range(10, 20_000, 10) if after(clock, burst, 10)]
    assert [300, 900, 2100, 4500, 8100, 11700] == times[:6]


def test_late_answers_count(clock: Clock) -> None:
    """A worker that goes on answers what it has: then it is no longer stuck. Other answers are none of the burst."""
    burst = Burst(lambda: 2, TIMEOUT)
    after(clock, burst, 0)
    old = list(clock.sent)
    clock.now += TIMEOUT
    assert 2 == burst.stuck
    assert burst.take(old[0])
    assert not burst.take(old[0])
    assert not burst.take(123.0)
    assert 1 == burst.stuck
    after(clock, burst, EVERY)
    assert not burst.take(old[1])


def test_single_ping_that_fails_hurries_it(clock: Clock) -> None:
    """Whether all workers are stuck, or the one that was asked, shall be known soon; once it is, there is no hurry."""
    burst = Burst(lambda: 2, TIMEOUT)
    after(clock, burst, 0)
    for asked in clock.sent:
        burst.take(asked)
    burst.hurry()
    assert [0, 2] == [after(clock, burst, 19), after(clock, burst, 1)]
    clock.now += TIMEOUT
    assert 2 == burst.stuck
    burst.hurry()
    assert 0 == after(clock, burst, EVERY - TIMEOUT - 1)


def test_nothing_is_known_without_workers(clock: Clock) -> None:
    """Where a burst would tell nothing, or nobody knows how many workers there are, none is sent."""

    def unknown() -> int:
        raise SourceError("no settings")

    for workers in (lambda: 0, unknown):
        burst = Burst(workers, TIMEOUT)
        assert 0 == after(clock, burst, 0)
        assert burst.stuck is None


def test_lost_connection_is_forgotten(clock: Clock) -> None:
    """The next connection begins with a burst, and until its answers are there nothing is known."""
    burst = Burst(lambda: 2, TIMEOUT)
    after(clock, burst, 0)
    clock.now += TIMEOUT
    burst.forget()
    assert burst.stuck is None
    assert 2 == after(clock, burst, 0)
    assert burst.stuck is None
