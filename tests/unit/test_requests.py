"""Unanswered requests, from byte counters: what counts as a request, what as a reply, and what as neither."""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from salt_exporter.analysis.requests import _HANDSHAKE_RECEIVED as _HANDSHAKE_RECEIVED_BARE
from salt_exporter.analysis.requests import HANDSHAKE_SENT, Client, Requests, Unanswered

_INTERVAL = 5.0
_HEARTBEAT = 10.0
_PING, _PONG = 9, 7
_NOBODY = Unanswered(0, 0.0)
# ZMTP 3.1: signature, version, mechanism, as-server, filler; then the command of a client without an identity.
_GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)
_READY = b"\x04\x29\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\0"
# What a client with an identity such as Salt's sends to begin with.
_HANDSHAKE_RECEIVED = (
    64 + 2 + 6 + 19 + 13 + len("salt-req/minion/web1.example.com/12345/0123456789abcdef0123456789abcdef")
)


@dataclass
class _Wire:
    """One connection as the kernel counts it, and the samples of it."""

    received: int = 10_000
    sent: int = 10_000
    now: float = 1000.0
    requests: Requests = field(default_factory=Requests)

    def sample(
        self, received: int = 0, sent: int = 0, interval: float = _INTERVAL, quiet: float = 0.0
    ) -> Unanswered | None:
        """Let so many bytes pass and look at it `interval` seconds after the last time."""
        self.received += received
        self.sent += sent
        self.now += interval
        self.requests.observe([Client(1, self.received, self.sent, quiet)], self.now, _HEARTBEAT)
        return self.requests.unanswered


def _known() -> _Wire:
    wire = _Wire()
    wire.sample()
    return wire


def test_first_sample() -> None:
    """One sample tells nothing: not known is not nobody."""
    assert None is _Wire().sample()


def test_second_sample() -> None:
    """A connection on which nothing happens waits for nothing."""
    assert _NOBODY == _known().sample()


def test_unanswered_request() -> None:
    """A request that has only just come counts from the next sample on; its age is that of its last byte."""
    wire = _known()
    assert _NOBODY == wire.sample(received=500)
    assert Unanswered(1, 5.0) == wire.sample()
    assert Unanswered(1, 10.0) == wire.sample()


def test_request_of_a_while_ago() -> None:
    """A request that came a second ago or more counts at once."""
    wire = _known()
    assert _NOBODY == wire.sample(received=500, quiet=0.5)
    assert Unanswered(1, 5.5) == wire.sample()
    wire = _known()
    assert Unanswered(1, 1.0) == wire.sample(received=500, quiet=1.0)
    wire = _known()
    assert Unanswered(1, 1.5) == wire.sample(received=500, quiet=1.5)
    assert Unanswered(1, 6.5) == wire.sample(quiet=6.5)


def test_answered_between_two_samples() -> None:
    """Request and reply within one interval leave nothing behind."""
    wire = _known()
    assert _NOBODY == wire.sample(received=500, sent=100)
    assert _NOBODY == wire.sample()


def test_late_reply() -> None:
    """A reply ends the wait, however late it comes."""
    wire = _known()
    wire.sample(received=500)
    wire.sample()
    assert _NOBODY == wire.sample(sent=100)
    assert _NOBODY == wire.sample()


def test_short_replies() -> None:
    """Salt's shortest replies are told from heartbeats, whatever heartbeats go out in the same interval."""
    for body in (b"\x80", b"\xa8bad load", b"\xd9\x26" + b"Some exception handling minion payload"):
        for heartbeats in (0, _PING, _PONG, _PING + _PONG):
            wire = _known()
            wire.sample(received=500)
            wire.sample()
            assert _NOBODY == wire.sample(sent=2 + 2 + len(body) + heartbeats), (body, heartbeats)


def test_heartbeats_do_not_answer() -> None:
    """A connection that waits goes on waiting while heartbeats are exchanged."""
    wire = _known()
    wire.sample(received=500)
    for number in range(1, 20):
        sent = (_PING, _PONG, _PING + _PONG)[number % 3]
        assert Unanswered(1, 5.0 * number) == wire.sample(received=_PONG, sent=sent)


@pytest.mark.parametrize("sent", [2 * _PING, 2 * _PONG, 2 * _PING + _PONG])
def test_more_than_heartbeats_of_the_interval_is_a_reply(sent: int) -> None:
    """Between two samples there is at most one heartbeat of each kind and direction."""
    wire = _known()
    wire.sample(received=500)
    wire.sample()
    assert _NOBODY == wire.sample(sent=sent)


@pytest.mark.parametrize(("received", "found"), [(5 * (_PING + _PONG), _NOBODY), (81, Unanswered(1, 1.0))])
def test_more_than_held_back_heartbeats_is_a_request(received: int, found: Unanswered) -> None:
    """After a network was cut up to four heartbeats of each kind come with the one that is due."""
    assert found == _known().sample(received=received, quiet=1.0)


def test_heartbeat_of_before_is_not_taken_for_a_reply() -> None:
    """What was written while nobody asked is known when somebody does."""
    wire = _known()
    assert _NOBODY == wire.sample(sent=_PING)
    assert Unanswered(1, 1.0) == wire.sample(received=500, sent=_PING, quiet=1.0)


def test_handshake_of_a_client_is_as_long_as_libzmq_makes_it() -> None:
    """Greeting and READY of a DEALER, with an identity as long as Salt's are, in a long frame."""
    identity = b"x" * 250
    with zmq.Context() as context, socket.create_server(("127.0.0.1", 0)) as listener:
        client = context.socket(zmq.DEALER)
        client.set(zmq.LINGER, 0)
        client.set(zmq.IDENTITY, identity)
        client.connect(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
        connection, _ = listener.accept()
        with connection, client:
            connection.sendall(_GREETING)
            assert _HANDSHAKE_RECEIVED_BARE + len(identity) == _heard(connection)


def test_handshake_of_the_master_is_as_long_as_libzmq_makes_it() -> None:
    """Greeting and READY of a ROUTER."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.set(zmq.LINGER, 0)
        port = router.bind_to_random_port("tcp://127.0.0.1")
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(_GREETING + _READY)
            assert HANDSHAKE_SENT == _heard(connection)


def _heard(connection: socket.socket) -> int:
    """Return how many bytes come until the other end has nothing more to say."""
    connection.settimeout(1.0)
    heard = 0
    with suppress(TimeoutError):
        while more := connection.recv(65536):
            heard += len(more)
    return heard


def test_request_on_its_way() -> None:
    """A long request that takes several intervals to arrive is unanswered only from its end on."""
    wire = _known()
    for _ in range(5):
        assert _NOBODY == wire.sample(received=1_000_000)
    assert Unanswered(1, 5.0) == wire.sample()


def test_request_repeated() -> None:
    """A client that asks again while it waits does not wait from the start again."""
    wire = _known()
    wire.sample(received=500)
    wire.sample()
    assert Unanswered(1, 10.0) == wire.sample(received=500)


def test_new_connection_without_request() -> None:
    """A connection that has shaken hands and says nothing, as after a restart of the master, waits for nothing."""
    wire = _known()
    wire.requests.observe([], wire.now + 1, _HEARTBEAT)
    wire.received, wire.sent = _HANDSHAKE_RECEIVED, HANDSHAKE_SENT
    for _ in range(3):
        assert _NOBODY == wire.sample(received=_PONG, sent=_PING)


def test_new_connection_with_request() -> None:
    """A connection whose first request is not answered waits, though it was never seen before."""
    wire = _known()
    wire.requests.observe([], wire.now + 1, _HEARTBEAT)
    wire.received, wire.sent = _HANDSHAKE_RECEIVED, HANDSHAKE_SENT
    assert _NOBODY == wire.sample(received=800)
    assert Unanswered(1, 5.0) == wire.sample()


def test_longest_id() -> None:
    """The handshake of the minion with the longest id is no request; that of an unheard-of length is taken for one."""
    identity = b"salt-req/minion/%s/4194304/01234567-89ab-cdef-0123-456789abcdef" % (b"x" * 190)
    for longest_id, expected in ((190, _NOBODY), (0, Unanswered(1, 5.0))):
        wire = _known()
        wire.requests.longest_id = longest_id
        wire.requests.observe([], wire.now + 1, _HEARTBEAT)
        wire.received, wire.sent = 64 + 9 + 6 + 22 + 13 + len(identity), HANDSHAKE_SENT
        wire.sample()
        assert expected == wire.sample()


def test_salt_command() -> None:
    """The 335 bytes that `salt web1 test.ping` of 3008 sends on a new connection are seen."""
    wire = _known()
    wire.requests.observe([], wire.now + 1, _HEARTBEAT)
    wire.received, wire.sent = 335, HANDSHAKE_SENT
    wire.sample()
    assert Unanswered(1, 5.0) == wire.sample()


def test_new_connection_answered() -> None:
    """A reply beyond the handshake tells that the first request was answered."""
    wire = _known()
    wire.requests.observe([], wire.now + 1, _HEARTBEAT)
    wire.received, wire.sent = _HANDSHAKE_RECEIVED, HANDSHAKE_SENT
    assert _NOBODY == wire.sample(received=800, sent=70)
    assert _NOBODY == wire.sample()


def test_first_request_after_a_pause() -> None:
    """A short request on a connection that was silent after its handshake is seen."""
    wire = _known()
    wire.requests.observe([], wire.now + 1, _HEARTBEAT)
    wire.received, wire.sent = _HANDSHAKE_RECEIVED, HANDSHAKE_SENT
    wire.sample()
    wire.sample(received=200)
    assert Unanswered(1, 5.0) == wire.sample()


def test_closed_connection() -> None:
    """Whoever hangs up waits no longer."""
    wire = _known()
    wire.sample(received=500)
    wire.sample()
    wire.requests.observe([], wire.now + 5, _HEARTBEAT)
    assert _NOBODY == wire.requests.unanswered


def test_same_sample_twice() -> None:
    """A sample seen twice confirms nothing."""
    wire = _known()
    wire.sample(received=500)
    assert _NOBODY == wire.sample(interval=0.0)


def test_suspended_sampler() -> None:
    """After a long gap anything that was sent may have been a reply."""
    wire = _known()
    wire.sample(received=500)
    wire.sample()
    assert Unanswered(1, 65.0) == wire.sample(interval=60.0)
    assert _NOBODY == wire.sample(sent=6 * _PING, interval=60.0)


def test_oldest_of_many() -> None:
    """Connections are counted one by one; the oldest request gives the age."""
    requests = Requests()
    counters = dict.fromkeys(range(10), 1000)
    for step in range(5):
        if step:
            counters[step] += 500
        requests.observe([Client(*item, 1000, 0.0) for item in counters.items()], 5.0 * step + 1, _HEARTBEAT)
    assert Unanswered(3, 15.0) == requests.unanswered


_BEATS = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=40)


@given(
    beats=_BEATS, interval=st.floats(0.5, _HEARTBEAT, exclude_max=True), new=st.booleans(), identity=st.integers(0, 130)
)
def test_heartbeats_alone(beats: list[tuple[bool, bool]], interval: float, new: bool, identity: int) -> None:  # noqa: FBT001
    """However heartbeats fall into samples, and however long the identity is, they never make a connection wait."""
    wire = _known()
    if new:
        wire.requests.observe([], wire.now + 1, _HEARTBEAT)
        wire.received, wire.sent = 64 + 9 + 6 + 22 + 13 + identity, HANDSHAKE_SENT
    for ping, pong in beats:
        size = _PING * ping + _PONG * pong
        assert _NOBODY == wire.sample(received=size, sent=size, interval=interval, quiet=interval)


@given(
    st.lists(
        st.tuples(st.integers(0, 3000), st.integers(0, 3000), st.floats(0.1, 100.0), st.floats(0.0, 1.0)),
        min_size=1,
        max_size=60,
    )
)
def test_bounds(traffic: list[tuple[int, int, float, float]]) -> None:
    """Whatever happens: one connection is at most one that waits, and for no longer than it has been watched."""
    wire = _known()
    started = wire.now
    for received, sent, interval, quiet in traffic:
        unanswered = wire.sample(received, sent, interval, interval * quiet)
        assert unanswered
        assert unanswered.connections in (0, 1)
        assert 0.0 <= unanswered.oldest <= wire.now - started
        assert unanswered.connections or not unanswered.oldest


@given(
    st.lists(
        st.tuples(st.integers(100, 100_000), st.integers(64, 100_000), st.integers(0, 3), st.booleans()), max_size=40
    )
)
def test_healthy_client(exchanges: list[tuple[int, int, int, bool]]) -> None:
    """A client that gets each of its requests answered before the next sample never waits, whatever their sizes."""
    wire = _known()
    for request, reply, number, ping in exchanges:
        heartbeat = _PING * ping
        size = _PONG * ping
        assert _NOBODY == wire.sample(received=request * number + size, sent=reply * number + heartbeat, quiet=2.0)
