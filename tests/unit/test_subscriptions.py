"""The lives of connections to the publish port: who was there when, how a connection ended, and what is forgotten."""

from __future__ import annotations

import socket
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salt_exporter.analysis import subscriptions as module
from salt_exporter.analysis.subscriptions import Life, Subscriptions
from salt_exporter.kernel.inet_diag import ESTABLISHED, Connection

FIN_WAIT_1, RETRANSMISSION, PROBE = 4, 1, 4
A, B = socket.inet_aton("10.0.0.1"), socket.inet_aton("10.0.0.2")
_MADE = Connection._make([0] * len(Connection._fields))._replace(state=ESTABLISHED, peer=A)


def row(cookie: int, peer: bytes = A, **fields: int) -> Connection:
    """Return an established connection with these fields; all others are 0."""
    return _MADE._replace(cookie=cookie, peer=peer, **fields)


@pytest.fixture
def known() -> Subscriptions:
    """Return subscriptions that nobody has looked at."""
    return Subscriptions()


def cookies(known: Subscriptions, time: float, *addresses: bytes) -> list[int]:
    """Return the connections that were there at a time."""
    return [life.cookie for life in known.at(addresses or (A,), time)]


def test_nothing_is_known_before_the_first_sample(known: Subscriptions) -> None:
    """Nobody was there, nobody is, and nothing is known of any time."""
    assert [] == known.at((A,), 0.0)
    assert not known.is_connected((A,))
    assert (inf, -inf) == (known.began, known.newest)


def test_connection_of_the_first_sample_was_there_before(known: Subscriptions) -> None:
    """Nobody knows when it opened: it covers all times, also those before somebody looked."""
    known.observe([row(1)], 100.0)

    assert [Life(1, -inf, 100.0, inf, received=100.0, unsent=0, repeats=0)] == known.at((A,), 50.0)
    assert [1] == cookies(known, 1000.0)
    assert (100.0, 100.0) == (known.began, known.newest)


def test_connection_that_opens_later_covers_what_follows(known: Subscriptions) -> None:
    """It was not there before the sample that has it first."""
    known.observe([], 100.0)
    known.observe([row(1)], 105.0)
    known.observe([row(1)], 110.0)

    assert [] == cookies(known, 104.9)
    assert [1] == cookies(known, 105.0)
    assert [105.0] == [life.opened for life in known.at((A,), 106.0)]
    assert (100.0, 110.0) == (known.began, known.newest)


def test_connection_that_ended_covers_up_to_its_end(known: Subscriptions) -> None:
    """It was there when it was seen last, and is taken to have been until shortly before it was missed."""
    known.observe([row(1)], 100.0)
    known.observe([], 105.0)

    assert [1] == cookies(known, 100.0)
    assert [1] == cookies(known, 103.4)
    assert [] == cookies(known, 103.5)  # missed at once: it had ended before
    assert [] == cookies(known, 105.0)
    assert [(100.0, 105.0)] == [(life.seen, life.gone) for life in known.at((A,), 100.0)]


def test_sample_that_has_it_proves_it(known: Subscriptions) -> None:
    """However soon after a sample a connection is missed: at that sample it was there."""
    known.observe([row(1)], 100.0)
    known.observe([], 101.0)

    assert [1] == cookies(known, 100.0)
    assert [] == cookies(known, 100.1)


def test_reconnect_is_two_lives(known: Subscriptions) -> None:
    """A minion that comes back has another connection; the old one stays known, after those that still are."""
    known.observe([row(1)], 100.0)
    known.observe([row(2)], 110.0)

    assert [1] == cookies(known, 100.0)
    assert [2] == cookies(known, 110.0)
    assert known.is_connected((A,))
    known.observe([row(2), row(3)], 120.0)
    known.observe([row(3)], 130.0)
    assert [3, 2] == cookies(known, 120.0)  # those that still are come first


def test_state_at_the_end_is_that_of_the_last_sample(known: Subscriptions) -> None:
    """What was sent and heard last tells how a connection ended; the times are those of that sample."""
    known.observe([row(1, last_received_ms=500)], 100.0)
    known.observe([row(1, send_queue=70, timer=RETRANSMISSION, retransmits=3, last_received_ms=5500)], 105.0)
    known.observe([], 110.0)

    assert [Life(1, -inf, 105.0, 110.0, received=99.5, unsent=70, repeats=3)] == known.at((A,), 100.0)


def test_state_of_a_live_connection_is_that_of_the_newest_sample(known: Subscriptions) -> None:
    """A connection is told as it was seen last, whatever time is asked about."""
    known.observe([row(1, send_queue=5)], 100.0)
    known.observe([row(1, last_received_ms=2000)], 105.0)

    assert [Life(1, -inf, 105.0, inf, received=103.0, unsent=0, repeats=0)] == known.at((A,), 100.0)


@pytest.mark.parametrize(("timer", "repeats"), [(RETRANSMISSION, 4), (PROBE, 0), (0, 0)])
def test_only_the_retransmission_timer_counts_repeats(known: Subscriptions, timer: int, repeats: int) -> None:
    """The kernel counts unanswered keepalives and window probes in the same field."""
    known.observe([row(1, timer=timer, retransmits=4)], 100.0)

    assert [repeats] == [life.repeats for life in known.at((A,), 100.0)]


def test_only_established_connections_are_any(known: Subscriptions) -> None:
    """A connection that the master has closed and that lingers has ended."""
    known.observe([row(1)], 100.0)
    known.observe([row(1, state=FIN_WAIT_1)], 105.0)

    assert [105.0] == [life.gone for life in known.at((A,), 100.0)]
    assert not known.is_connected((A,))


def test_addresses_are_told_apart_and_several_asked_for(known: Subscriptions) -> None:
    """A minion is asked for by all its addresses."""
    known.observe([row(1), row(2, B), row(3)], 100.0)

    assert [1, 3] == cookies(known, 100.0, A)
    assert [2] == cookies(known, 100.0, B)
    assert [1, 3, 2] == cookies(known, 100.0, A, B)
    known.observe([row(2, B)], 105.0)
    assert [2, 1, 3] == cookies(known, 100.0, A, B)
    assert known.is_connected((A, B))
    assert not known.is_connected((A,))
    assert not known.is_connected(())


def test_ended_connections_are_forgotten_after_their_time(known: Subscriptions) -> None:
    """What ended two hours ago no job asks about any more."""
    known.observe([row(1), row(2)], 0.0)
    known.observe([row(2)], 10.0)
    known.observe([row(2)], 10.0 + 7200.0)
    assert [2, 1] == cookies(known, 0.0)

    known.observe([row(2)], 10.0 + 7200.1)
    assert [2] == cookies(known, 0.0)
    assert {} == known._ended_by_peer


def test_ended_connections_are_bounded(known: Subscriptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """A storm of reconnects takes no memory beyond the bound; the oldest go first."""
    monkeypatch.setattr(module, "_KEPT", 3)
    for number in range(10):
        known.observe([row(number, A if number % 2 else B)], float(number * 10))

    ended = [cookie for cookie in range(10) if any(cookie == life.cookie for _, life in known._ended)]
    assert [6, 7, 8] == ended
    assert sorted(ended) == sorted(life.cookie for lives in known._ended_by_peer.values() for life in lives)
    assert {9} == known._opened.keys()


_samples = st.lists(
    st.tuples(st.sets(st.integers(1, 6)), st.floats(0.5, 20.0)), min_size=1, max_size=12
)  # who is there, and seconds until the next


@given(_samples, st.floats(0.0, 200.0))
@settings(deadline=None)
def test_each_life_is_told_once_and_covers_the_samples_that_have_it(
    samples: list[tuple[set[int], float]], asked: float
) -> None:
    """Whatever comes and goes: at the time of a sample exactly its connections were there, and never one twice."""
    known = Subscriptions()
    now, shown = 0.0, []
    for present, pause in samples:
        known.observe([row(cookie, A if cookie % 2 else B) for cookie in present], now)
        shown.append((now, present))
        now += pause

    for time, present in shown:
        assert present == set(cookies(known, time, A, B))
    lives = known.at((A, B), asked)
    assert len(lives) == len({(life.cookie, life.opened) for life in lives})
    assert all(life.opened <= asked < life.gone for life in lives)
    assert len(shown[-1][1]) == len(known._live)
    assert known._opened.keys() <= known._live.keys()
