"""The byte ledger against a model of ZeroMQ that knows what it has dropped: neither more nor less is counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salt_exporter.analysis import ledger as module
from salt_exporter.analysis.ledger import HANDSHAKE, PING, SETTLE, Ledger, Subscriber
from salt_exporter.analysis.stream import Stream, wire_size
from tests.unit.zeromq_model import World

if TYPE_CHECKING:
    from tests.unit.zeromq_model import Connection

FAST = float("inf")
_STEADY = [5_000]
_MIXED = [1_000, 30_000, 200_000]

_worlds = st.builds(
    World,
    hwm=st.sampled_from([1, 10, 99]),
    heartbeat=st.sampled_from([0.0, 10.0]),
    interval=st.sampled_from([0.5, 1.0, 5.0]),
    seed=st.integers(0, 2**32),
)


def _publish(world: World, number: int, sizes: list[int], pause: float = 0.05) -> None:
    for _ in range(number):
        world.publish(world.random.choice(sizes))
        world.run(pause)


def _assert_counted(world: World, slow: Connection) -> None:
    """Check that the ledger says what was dropped for the one slow subscriber, in messages and bytes."""
    assert len(slow.dropped) == world.ledger.dropped_messages
    assert sum(slow.dropped) == world.ledger.dropped_bytes


def _check_exact(world: World, within: float = 0.01) -> None:
    """Compare what is counted with what was dropped; heartbeats during a stall cannot be told from lost bytes."""
    dropped = world.dropped
    assert world.ledger.dropped_messages == pytest.approx(len(dropped), rel=within, abs=1)
    pings = world.now / world.heartbeat * PING * len(world.connections) if world.heartbeat else 0
    assert world.ledger.dropped_bytes == pytest.approx(sum(dropped), abs=pings)
    for connection in world.connections:
        account = world.ledger.accounts[connection.cookie]
        assert account.low == account.high == world.stream.position - account.handed
        assert 0 == account.queued_messages


@given(_worlds, st.booleans(), st.data())
@settings(max_examples=150, deadline=None)
def test_nothing_dropped_nothing_counted(world: World, late: bool, data: st.DataObject) -> None:  # noqa: FBT001
    """Whatever the schedule, connections that come and go, late publishers, pauses: without a drop none is counted."""
    world.hwm = world.ledger.hwm = 10_000  # more than is published
    for _ in range(data.draw(st.integers(1, 40))):
        random = world.random
        if random.random() < 0.3 or not world.connections:
            world.connect(rate=random.choice([FAST, FAST, 50_000, 500_000]))
        if random.random() < 0.1:
            world.connections.remove(random.choice(world.connections))
        for connection in world.connections:
            if random.random() < 0.1:
                connection.rate = random.choice([0, 0, FAST, 100_000])
            if late and random.random() < 0.1:
                connection.late = random.randint(1, 40)
        world.suspended = random.random() < 0.1
        _publish(world, random.choice([0, 1, 30]), random.choice([_STEADY, _MIXED]), random.choice([0, 0.05, 0.4]))
        world.run(random.uniform(0, 8))
        assert (0, 0) == (world.ledger.dropped_messages, world.ledger.dropped_bytes)
    world.settle()
    _check_exact(world)


@given(_worlds, st.integers(0, 80), st.integers(1, 400), st.sampled_from([_STEADY, _MIXED]))
@settings(max_examples=150, deadline=None)
def test_one_stall_is_exact(world: World, ahead: int, during: int, sizes: list[int]) -> None:
    """A subscriber that stalls once has lost exactly what is counted, whatever the sizes; one beside it nothing."""
    fast, slow = world.connect(), world.connect()
    world.run(2 * world.interval)
    _publish(world, ahead, sizes)
    world.run(4 * world.interval)
    slow.rate = 0
    _publish(world, during, sizes)
    world.settle()
    assert not fast.dropped
    _check_exact(world)


@given(_worlds, st.data())
@settings(max_examples=100, deadline=None)
def test_steady_sizes_are_exact_whatever_happens(world: World, data: st.DataObject) -> None:
    """With messages of one size any pattern of stalls and slow reading ends with the right numbers."""
    subscribers = [world.connect() for _ in range(3)]
    world.run(3 * world.interval)
    for _ in range(data.draw(st.integers(1, 30))):
        for connection in subscribers:
            connection.rate = world.random.choice([connection.rate, 0, FAST, 20_000, 200_000])
        world.suspended = world.random.random() < 0.1
        _publish(world, world.random.randint(0, 40), _STEADY, world.random.choice([0, 0.05, 0.1]))
        dropped = world.dropped
        assert len(dropped) >= world.ledger.dropped_messages
    world.settle()
    _check_exact(world)


@given(_worlds, st.data())
@settings(max_examples=60, deadline=None)
def test_all_bytes_are_accounted_for(world: World, data: st.DataObject) -> None:
    """For each connection handed + queued + dropped is what was published since it began, also with mixed sizes."""
    world.heartbeat = world.ledger.heartbeat = 0.0
    subscribers = [world.connect() for _ in range(3)]
    world.run(3 * world.interval)
    handed = {connection.cookie: connection.handed for connection in subscribers}
    for _ in range(data.draw(st.integers(1, 30))):
        for connection in subscribers:
            connection.rate = world.random.choice([connection.rate, 0, FAST, 200_000])
        _publish(world, world.random.randint(0, 40), _MIXED)
    world.settle()
    got = sum(connection.handed - handed[connection.cookie] for connection in subscribers)
    assert got + world.ledger.dropped_bytes == sum(connection.offered_bytes for connection in subscribers)


def _world(**options: float) -> World:
    return World(**options)  # type: ignore[arg-type] # of the class


def _ready(world: World, **options: float) -> Connection:
    """Return a connection that the ledger knows exactly."""
    connection = world.connect(**options)
    world.run(3 * world.interval)
    return connection


def _cut_off(world: World, connection: Connection) -> None:
    """End a connection whose state has been sampled, and let its end be."""
    world.run(3)
    world.connections.remove(connection)
    world.run(3)


def _known(world: World, connection: Connection) -> list[int]:
    """Return the numbers of the messages that the ledger takes for dropped."""
    return [number for number in range(world.published) if world.ledger.has_dropped(connection.cookie, number)]


def _stall_unseen(world: World, slow: Connection, afterwards: int) -> None:
    """Stall a subscriber and let it recover between two samples, then let everything come to rest."""
    world.suspended = True
    slow.rate = 0
    _publish(world, 100, _MIXED)
    slow.rate = FAST
    _publish(world, afterwards, _MIXED)
    world.settle()
    _check_exact(world)


def _check_full_at_the_next_drop(world: World, slow: Connection) -> None:
    """Stall a subscriber until something is dropped for it again: its queue is known to be full then."""
    lost = len(slow.dropped)
    slow.rate = 0
    while len(slow.dropped) == lost:
        world.publish(5_000)
        world.run(0.7)
    assert 0.9 <= world.highest_ratio <= 1.1


def test_several_stalls_one_after_another() -> None:
    """ZeroMQ resumes at its low-water mark only: the losses of several stalls add up, and none is counted twice."""
    world = _world(hwm=10)
    slow = _ready(world)
    lost = 0
    for _ in range(5):
        slow.rate = 0
        _publish(world, 100, _MIXED)
        assert len(slow.dropped) > lost
        lost = len(slow.dropped)
        world.settle()
        _check_exact(world)


@pytest.mark.parametrize("sizes", [_STEADY, _MIXED])
def test_what_was_dropped_is_known_by_number(sizes: list[int]) -> None:
    """Which messages a stalled subscriber lost is known while it is stalled, and remains so after it has caught up."""
    world = _world(hwm=10)
    slow, fast = _ready(world), _ready(world)

    for _ in range(3):
        _publish(world, 20, sizes)
        slow.rate = 0
        _publish(world, 100, sizes)
        world.run(3)
        assert slow.dropped_numbers
        assert slow.dropped_numbers == _known(world, slow)
        world.settle()
        assert slow.dropped_numbers == _known(world, slow)
    assert [] == _known(world, fast)


def test_each_of_several_stalls_is_counted_to_the_last_message() -> None:
    """Nothing of one stall is left over for the next."""
    world = _world(hwm=10)
    slow = _ready(world)
    for _ in range(3):
        slow.rate = 0
        _publish(world, 100, _STEADY)
        world.run(3)
        assert world.ledger.dropped_messages > 0
        world.settle()
        _assert_counted(world, slow)


def test_what_was_dropped_is_known_after_the_end() -> None:
    """A connection that was cut while messages were dropped for it still tells which."""
    world = _world(hwm=10)
    slow = _ready(world)
    slow.rate = 0
    _publish(world, 100, _STEADY)
    _cut_off(world, slow)
    assert slow.dropped_numbers
    assert all(world.ledger.has_dropped(slow.cookie, number) for number in slow.dropped_numbers)
    assert not world.ledger.has_dropped(slow.cookie, slow.dropped_numbers[0] - 1)


def test_drops_show_while_the_subscriber_is_still_stalled() -> None:
    """Nobody need recover for drops to be counted: what surely does not fit into the queue is counted at once."""
    world = _world(hwm=10)
    slow = _ready(world)
    slow.rate = 0
    _publish(world, 200, _STEADY)
    world.run(3)
    assert len(slow.dropped) - 3 <= world.ledger.dropped_messages <= len(slow.dropped)
    assert world.ledger.accounts[slow.cookie].stalled
    world.settle()
    _assert_counted(world, slow)
    assert len(slow.dropped) == sum(world.ledger.dropped_by_peer.values())


def test_who_reads_slowly_is_not_stalled() -> None:
    """Behind and stalled are two things: some bytes are taken between any two samples. Nor is who has just come."""
    world = _world(hwm=1000)
    slow = _ready(world, rate=50_000)
    _publish(world, 40, [30_000])
    world.run(2)
    account = world.ledger.accounts[slow.cookie]
    assert account.queued_messages > 0
    assert account.send_queue > 0
    assert not account.stalled
    new = world.connect()
    world.run(world.interval + 0.5)
    assert not world.ledger.accounts[new.cookie].stalled


def test_what_is_only_under_way_does_not_wait() -> None:
    """Bytes in the kernel's send queue are not in ZeroMQ's, nor has a connection that is new anything there."""
    world = _world(hwm=10)
    slow = _ready(world)
    slow.rate = 0
    world.publish(150_000)
    world.run(3 * world.interval)
    new = world.connect()
    world.run(world.interval + 0.5)
    assert world.ledger.accounts[slow.cookie].send_queue > 0
    for connection in (slow, new):
        account = world.ledger.accounts[connection.cookie]
        assert (0, 0, 0.0) == (account.queued_messages, account.queued_bytes, account.fill)


@pytest.mark.parametrize("ends", [False, True])
def test_what_seems_to_be_dropped_is_known_before_it_is_counted(ends: bool) -> None:  # noqa: FBT001
    """Which messages were dropped is known before it is sure how many, while the connection is there and afterwards."""
    world = _world(hwm=10, interval=0.2)
    slow = _ready(world)
    slow.rate = 0
    while not slow.dropped:
        world.publish(5_000)
        world.run(0.7)
    world.run(3)
    assert 0 == world.ledger.dropped_messages
    if ends:
        _cut_off(world, slow)
        assert 1 == world.ledger.dropped_messages
    assert slow.dropped_numbers == _known(world, slow)


def test_who_is_stalled_already_when_we_come_has_lost_nothing_yet() -> None:
    """What waits for a connection that is behind when it is first seen is neither lost nor missed by ourselves."""
    world = _world(hwm=1000)
    slow = world.connect(rate=0)
    world.suspended = True
    _publish(world, 20, [30_000])
    world.suspended = False
    world.run(3)
    world.settle()
    _publish(world, 20, _MIXED)
    world.settle()
    assert not slow.queue
    assert (0, 0) == (world.ledger.dropped_messages, world.ledger.reference_gaps)


def test_the_publisher_is_late_after_a_loss() -> None:
    """Who has lost something once is not more easily thought to have lost something again."""
    world = _world(hwm=10)
    slow = _ready(world)
    slow.rate = 0
    _publish(world, 100, _STEADY)
    world.settle()
    _assert_counted(world, slow)
    slow.late = 40
    _publish(world, 8, _MIXED, 0)
    world.run(1.5)
    _assert_counted(world, slow)
    world.settle()
    _assert_counted(world, slow)


@pytest.mark.parametrize("ahead", [0, 3, 47, 50, 99])
def test_the_queue_is_full_when_it_drops(ahead: int) -> None:
    """The fill is 1 when the first message is dropped, however much of the last credit had been used."""
    world = _world(hwm=100, interval=0.2)
    slow = _ready(world)
    _publish(world, ahead, _STEADY, 0.2)
    slow.rate = 0
    ratios = []
    while not slow.dropped:
        world.publish(5_000)
        world.run(0.7)  # so slowly that each message is sampled
        ratios.append(world.highest_ratio)
    assert ratios == sorted(ratios)
    assert 0.9 <= ratios[-1] <= 1.1
    assert ratios[-20] < 0.9


def test_the_queue_is_full_when_it_drops_again() -> None:
    """After a loss it is known how far the credit of the queue has been used."""
    world = _world(hwm=100, interval=0.2)
    slow = _ready(world)
    slow.rate = 0
    _publish(world, 300, _STEADY)
    world.settle()
    assert slow.dropped
    _publish(world, 33, _STEADY, 0.2)
    _check_full_at_the_next_drop(world, slow)


def test_a_subscriber_that_never_recovers() -> None:
    """When a stalled connection ends, what waited for it is lost on close and the rest was dropped: together all."""
    world = _world(hwm=10)
    slow = _ready(world)
    slow.rate = 0
    _publish(world, 100, _MIXED)
    _cut_off(world, slow)
    ledger = world.ledger
    _assert_counted(world, slow)
    under_way = slow.handed - slow.acked
    assert ledger.lost_on_close_bytes == slow.waiting_bytes + under_way
    assert ledger.lost_on_close_messages == pytest.approx(len(slow.queue) + 2, abs=2)
    assert not ledger.accounts


def test_ordinary_restarts_lose_nothing() -> None:
    """A connection that ends while nothing waits for it has lost nothing, nor has one with bytes just under way."""
    world = _world(hwm=10, interval=0.5)
    world.connect()
    world.run(SETTLE + 0.1)  # is seen once
    world.connections.clear()
    for _ in range(30):
        connection = world.connect(rate=world.random.choice([FAST, 2_000_000]))
        _publish(world, world.random.randint(0, 30), _MIXED, 0.2)
        world.connections.remove(connection)
        _publish(world, world.random.randint(0, 3), _MIXED)
    assert (0, 0) == (world.ledger.lost_on_close_messages, world.ledger.dropped_messages)


def test_heartbeats_for_hours() -> None:
    """Heartbeats are no messages: hours of them, sampled or not, move nothing, and a drop afterwards is exact."""
    world = _world(hwm=10, heartbeat=10.0, interval=5.0)
    slow = _ready(world)
    world.run(3600)
    world.suspended = True
    world.run(3600)
    world.settle()
    assert (0, 0) == (world.ledger.dropped_messages, world.ledger.reference_gaps)
    slow.rate = 0
    _publish(world, 100, _MIXED)
    world.settle()
    _check_exact(world)
    assert sum(slow.dropped) == world.ledger.dropped_bytes


def test_the_publisher_is_late() -> None:
    """A large fleet is served one after the other: who waits for seconds while others get theirs has lost nothing."""
    world = _world(hwm=1000, interval=1.0)
    for _ in range(10):
        _ready(world)
    for _ in range(20):
        for turn, connection in enumerate(world.connections):
            connection.late = connection.late or turn * 10
        world.publish(1_000_000)
        world.run(world.random.uniform(3, 9))
    world.settle()
    assert (0, 0) == (world.ledger.dropped_messages, world.ledger.reference_gaps)


def test_our_own_subscriber_misses_messages() -> None:
    """What only our own subscriber missed is no loss of anybody else's; after that drops are exact again."""
    world = _world(hwm=10)
    slow = _ready(world)
    world.deaf = True
    _publish(world, 20, _MIXED)
    world.deaf = False
    _publish(world, 20, _MIXED)
    world.settle()
    assert 0 == world.ledger.dropped_messages
    assert 1 == world.ledger.reference_gaps
    slow.rate = 0
    _publish(world, 100, _MIXED)
    world.settle()
    _assert_counted(world, slow)


def test_our_own_subscriber_misses_a_short_message() -> None:
    """Heartbeats explain some bytes, but not as many as the shortest publication has."""
    world = _world(hwm=10, heartbeat=10.0, interval=5.0)
    _ready(world)
    world.deaf = True
    world.publish(250)
    world.deaf = False
    world.settle()
    assert 1 == world.ledger.reference_gaps


def test_our_own_subscriber_is_the_slow_one() -> None:
    """When messages reach us seconds later than all others nobody is thought to have lost or gained anything."""
    world = _world(hwm=10, delay=4.0, interval=5.0)
    _ready(world)
    _publish(world, 200, _MIXED)
    world.settle()
    world.settle()
    assert (0, 0) == (world.ledger.dropped_messages, world.ledger.reference_gaps)


def test_a_new_subscription_of_ours_starts_anew() -> None:
    """After our own subscriber was disconnected every account is opened again, and what was missed is nobody's loss."""
    world = _world(hwm=10)
    slow = _ready(world)
    world.deaf = True
    _publish(world, 20, _MIXED)
    world.deaf = False
    world.ledger.restart()
    world.run(6)
    assert (0, 0) == (world.ledger.dropped_messages, world.ledger.reference_gaps)
    slow.rate = 0
    _publish(world, 100, _MIXED)
    world.settle()
    assert len(slow.dropped) == world.ledger.dropped_messages


def test_drops_of_before_a_new_subscription_are_still_known() -> None:
    """Which messages were dropped is not forgotten with the accounts."""
    world = _world(hwm=10)
    slow = _ready(world)
    slow.rate = 0
    _publish(world, 100, _STEADY)
    world.run(3)
    world.ledger.restart()
    world.run(3)
    assert slow.dropped_numbers
    assert all(world.ledger.has_dropped(slow.cookie, number) for number in slow.dropped_numbers)


def test_a_suspended_sampler() -> None:
    """A whole stall with its recovery between two samples is found all the same."""
    world = _world(hwm=10)
    slow = _ready(world)
    _stall_unseen(world, slow, afterwards=50)
    assert slow.dropped
    assert all(world.ledger.has_dropped(slow.cookie, number) for number in slow.dropped_numbers)
    assert not world.ledger.has_dropped(slow.cookie, slow.dropped_numbers[0] - 1)


def test_who_comes_late_loses_what_is_lost_then() -> None:
    """However much was published before it came, the messages that it lost are known by number, time after time."""
    world = _world(hwm=10)
    _publish(world, 300, _MIXED)
    slow = _ready(world)
    for _ in range(3):
        _stall_unseen(world, slow, afterwards=20)
        known = set(_known(world, slow))
        assert len(slow.dropped) == len(known)
        assert len(known - set(slow.dropped_numbers)) <= 3  # runs of the same bytes a message beside the right ones
        _publish(world, 150, _MIXED)
        world.settle()


def test_several_runs_of_drops_in_one_stall() -> None:
    """What is counted before it ends is never more than was dropped, and afterwards the queue is known again."""
    world = _world(hwm=100, interval=0.2)
    slow = _ready(world)
    slow.rate = 0
    _publish(world, 143, [30_000])
    for _ in range(4):
        slow.rate = 2_000_000
        world.run(1)
        slow.rate = 0
        _publish(world, 143, [30_000])
        assert len(slow.dropped) >= world.ledger.dropped_messages > 0
    assert world.ledger.dropped_messages >= 0.8 * len(slow.dropped)
    world.settle()
    _check_exact(world)
    _check_full_at_the_next_drop(world, slow)


def test_what_was_under_way_to_who_is_cut_off() -> None:
    """What is lost on close is what has not wholly arrived, but for the message that is being handed over."""
    world = _world(hwm=1000)
    _publish(world, 50, [30_000])
    slow = _ready(world)
    slow.rate = 0
    _publish(world, 40, [30_000])
    _cut_off(world, slow)
    arrived = (slow.acked - HANDSHAKE) // wire_size(30_000)
    assert 40 - arrived - 1 <= world.ledger.lost_on_close_messages <= 40 - arrived


def test_a_loss_that_no_run_of_messages_adds_up_to() -> None:
    """The bytes are exact, their number is what the usual size tells, and any of what was published may be meant."""
    stream = Stream()
    ledger = Ledger(stream, hwm=10)
    ledger.observe([Subscriber(1, b"", 91, 0)], 0, 0, 0.0)
    for _ in range(20):
        stream.append(991, 0.5)
    for second in range(1, 9):
        ledger.observe([Subscriber(1, b"", 91 + 20_000 - 1_500, 0)], 20_000, 20_000, float(second))
    assert (2, 1_500) == (ledger.dropped_messages, ledger.dropped_bytes)
    assert all(ledger.has_dropped(1, number) for number in range(20))
    assert not ledger.has_dropped(1, 20)


def test_publisher_that_never_pauses() -> None:
    """Where no moment is quiet a rise counts after a minute, and of what it was in that time the least."""
    stream = Stream()
    ledger = Ledger(stream, hwm=10)
    ledger.observe([Subscriber(1, b"", 91, 0)], 0, 0, 0.0)
    for second in range(1, 80):
        stream.append(991, float(second))
        behind = (3_000, 1_000, 2_000)[second % 3]
        published = 1_000 * second
        ledger.observe([Subscriber(1, b"", 91 + published - behind, 0)], published, published, float(second))
        assert (0, 0) == (ledger.dropped_messages, ledger.dropped_bytes) or second > 60
    assert (1, 1_000) == (ledger.dropped_messages, ledger.dropped_bytes)


def test_counters_that_go_backwards() -> None:
    """Counters of the kernel that fall are taken as bytes that wait, never as a negative loss."""
    stream = Stream()
    ledger = Ledger(stream, hwm=10)
    for second, acked in enumerate([5000, 5000, 4000, 4000, 5000, 5000, 5000]):
        ledger.observe([Subscriber(1, b"", acked, 0)], 0, 0, float(second))
    assert 0 <= ledger.dropped_messages <= 1
    assert ledger.dropped_bytes in (0, 1000)


def test_a_connection_that_took_a_port_over_is_another_one() -> None:
    """A connection is its cookie: one from the same address and port begins its own account."""
    stream = Stream()
    ledger = Ledger(stream, hwm=10)
    ledger.observe([Subscriber(1, b"p", 91, 0)], 0, 0, 0.0)
    stream.append(10_000, 0.5)
    ledger.observe([Subscriber(2, b"p", 91, 0)], stream.position, stream.position, 1.0)
    for second in range(2, 9):
        ledger.observe([Subscriber(2, b"p", 91, 0)], stream.position, stream.position, float(second))
    assert 0 == ledger.dropped_messages
    assert [2] == list(ledger.accounts)


def test_memory_of_drops_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of however many connections something was dropped for, those of the newest drops are known."""
    monkeypatch.setattr(module, "_WINDOWS", 2)
    stream = Stream()
    ledger = Ledger(stream, hwm=1)
    everybody = [Subscriber(cookie, b"", 91, 0) for cookie in range(1, 4)]
    ledger.observe(everybody, 0, 0, 0.0)
    stream.append(1_000, 0.5)
    for second in range(1, 6):
        ledger.observe(everybody, stream.position, stream.position, float(second))
    assert 3 == ledger.dropped_messages
    assert [False, True, True] == [ledger.has_dropped(cookie, 0) for cookie in range(1, 4)]


def test_memory_of_peers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many addresses lose something, only so many are remembered, and the total has all."""
    monkeypatch.setattr(module, "_PEERS", 3)
    stream = Stream()
    ledger = Ledger(stream, hwm=1)
    subscribers = [Subscriber(number, bytes([number]), 91, 0) for number in range(1, 6)]
    ledger.observe(subscribers, 0, 0, 0.0)
    stream.append(1_000, 0.5)
    for second in range(1, 5):
        ledger.observe(subscribers, stream.position, stream.position, float(second))
    assert 5 == ledger.dropped_messages
    assert 5 * wire_size(1_000) == ledger.dropped_bytes
    assert 3 == len(ledger.dropped_by_peer)
