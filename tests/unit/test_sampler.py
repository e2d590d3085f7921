"""The sampler: one look at the sockets for all who ask, sorted by channel, without our own; and who is connected."""

from __future__ import annotations

import socket
import threading
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from salt_exporter.errors import SourceError
from salt_exporter.kernel.inet_diag import ESTABLISHED, TIME_WAIT, Connection, Listener
from salt_exporter.kernel.sock_diag import SocketTable
from salt_exporter.sampler import PUBLISH, REQUEST, Sampler, Snapshot, publish_peers, reaching_peers
from tests.unit.tools import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from salt_exporter.kernel.inet_diag import Row

PORTS = (15001, 15002)
RETRANSMISSION, KEEPALIVE, PROBE = 1, 2, 4
_MADE = Connection._make([0] * len(Connection._fields))._replace(state=ESTABLISHED)


def peer(text: str) -> bytes:
    """Return an address in network byte order."""
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def connection(address: str, local_port: int = PORTS[0], peer_port: int = 40000, **fields: int) -> Connection:
    """Return an established connection from an address, with these fields; all others are 0."""
    ports = {"local_port": socket.htons(local_port), "peer_port": socket.htons(peer_port)}
    return _MADE._replace(peer=peer(address), **ports, **fields)


class Kernel:
    """Gives the tables that a test has put there; repeats the last."""

    def __init__(self, *tables: SocketTable) -> None:
        self.tables = list(tables)
        self.asked: list[tuple[int, int]] = []

    def __call__(self, ports: tuple[int, int]) -> SocketTable:
        """Give the next table."""
        self.asked.append(ports)
        return self.tables.pop(0) if len(self.tables) > 1 else self.tables[0]


def table(*connections: Connection, listeners: tuple[Listener, ...] = ()) -> SocketTable:
    """Return a whole table."""
    return SocketTable(list(connections), list(listeners), interrupted=False)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Stop the clock of the sampler; return what moves it on."""
    now = [1000.0]
    monkeypatch.setattr("salt_exporter.sampler.time.monotonic", lambda: now[0])

    def move(seconds: float) -> None:
        now[0] += seconds

    return move


def test_sockets_are_sorted_by_channel() -> None:
    """Connections and listeners stand under the channel of their local port."""
    first, second = Listener(PORTS[0], 1, 2, 3), Listener(PORTS[1], 4, 5, 6)
    published, requested = connection("10.0.0.1"), connection("10.0.0.2", PORTS[1])
    kernel = Kernel(table(requested, published, listeners=(second, first)))
    snapshot = Sampler(kernel, lambda: PORTS, 5.0).snapshot()

    assert {PUBLISH: [published], REQUEST: [requested]} == snapshot.connections
    assert {PUBLISH: [first], REQUEST: [second]} == snapshot.listeners
    assert [PORTS] == kernel.asked


def test_fresh_snapshot_is_shared(clock: Callable[[float], None]) -> None:
    """Everybody who asks within one and a half intervals gets the same snapshot, then there is a new one."""
    kernel = Kernel(table())
    sampler = Sampler(kernel, lambda: PORTS, 5.0)
    assert float("inf") == sampler.age
    first = sampler.snapshot()
    clock(7.5)
    assert first is sampler.snapshot()
    assert 7.5 == sampler.age
    clock(0.1)

    assert first is not sampler.snapshot()
    assert 2 == len(kernel.asked)
    assert 0.0 == sampler.age


def test_askers_at_the_same_time_share_one_look() -> None:
    """Collectors that run side by side do not each ask the kernel."""
    may_go_on = threading.Event()
    kernel = Kernel(table())

    def slow(ports: tuple[int, int]) -> SocketTable:
        assert may_go_on.wait(10)
        return kernel(ports)

    sampler = Sampler(slow, lambda: PORTS, 60.0)
    found: list[Snapshot] = []
    threads = [threading.Thread(target=lambda: found.append(sampler.snapshot())) for _ in range(5)]
    for thread in threads:
        thread.start()
    may_go_on.set()
    for thread in threads:
        thread.join()

    assert 1 == len(kernel.asked)
    assert 1 == len(set(map(id, found)))


def test_nobody_waits_for_the_next_regular_snapshot() -> None:
    """While the sampler looks again, whoever asks is given what it saw last."""
    may_go_on = threading.Event()
    may_go_on.set()
    kernel = Kernel(table(), table())

    def slow(ports: tuple[int, int]) -> SocketTable:
        assert may_go_on.wait(10)
        return kernel(ports)

    sampler = Sampler(slow, lambda: PORTS, 60.0)
    first = sampler.snapshot()
    may_go_on.clear()
    looking = threading.Thread(target=sampler._fresh)
    looking.start()
    asking = threading.Thread(target=lambda: found.append(sampler.snapshot()))
    found: list[Snapshot] = []
    asking.start()
    asking.join(5)
    assert found == [first]
    assert looking.is_alive()

    may_go_on.set()
    looking.join()
    assert first is not sampler.snapshot()


def test_each_snapshot_counts_once(clock: Callable[[float], None]) -> None:
    """However often a snapshot is asked for, what happened before it is counted once, for each channel."""
    one, two, three = (connection("10.0.0.1", cookie=cookie) for cookie in (1, 2, 3))
    other = connection("10.0.0.1", PORTS[1], cookie=9)
    sampler = Sampler(Kernel(table(one, other), table(two, three, other)), lambda: PORTS, 5.0)
    for _ in range(3):
        sampler.snapshot()
    clock(8.0)
    for _ in range(3):
        sampler.snapshot()

    publish, request = (sampler.churn[channel] for channel in (PUBLISH, REQUEST))
    assert (2, 1) == (publish.opened, publish.closed)
    assert (0, 0) == (request.opened, request.closed)


def test_own_connections_are_left_out() -> None:
    """What the exporter itself has opened, told by address and port, is no minion and no churn."""
    probe = connection("10.0.0.2", peer_port=5000, cookie=1)
    ours = connection("10.0.0.2", peer_port=5001, cookie=2)
    same_port, same_address = connection("10.0.0.3", peer_port=5000), connection("10.0.0.2", peer_port=5002)
    sampler = Sampler(Kernel(table(probe, ours, same_port, same_address)), lambda: PORTS, 5.0)
    sampler.own |= {(peer("10.0.0.2"), 5000), (peer("10.0.0.2"), 5001)}

    assert [same_port, same_address] == sampler.snapshot().connections[PUBLISH]


def test_trouble_is_told_to_whoever_asks(clock: Callable[[float], None]) -> None:
    """A kernel or settings that cannot be asked are no empty snapshot; the next one who asks tries again."""
    problems = [SourceError("no kernel")]

    def read(_ports: tuple[int, int]) -> SocketTable:
        if problems:
            raise problems.pop()
        return table()

    sampler = Sampler(read, lambda: PORTS, 5.0)
    with pytest.raises(SourceError, match="no kernel"):
        sampler.snapshot()
    clock(0.0)

    assert [] == sampler.snapshot().connections[PUBLISH]


def test_old_snapshot_is_not_given_for_a_new_one(clock: Callable[[float], None]) -> None:
    """When the kernel cannot be asked any longer nobody is shown what was."""
    kernel = Kernel(table())
    sampler = Sampler(kernel, lambda: PORTS, 5.0)
    sampler.snapshot()
    clock(8.0)
    kernel.tables = []

    with pytest.raises(IndexError):
        sampler.snapshot()
    assert 8.0 == sampler.age


def test_samples_are_taken_unasked_and_shown_to_the_observers() -> None:
    """Once started, the sampler looks every interval, also after a failure, until it is stopped."""
    shown: list[Snapshot] = []
    problems = [SourceError("not yet"), SourceError("not yet")]

    def read(_ports: tuple[int, int]) -> SocketTable:
        if problems:
            raise problems.pop()
        return table()

    sampler = Sampler(read, lambda: PORTS, 0.01)
    sampler.observers.append(shown.append)
    sampler.start()
    wait_until(lambda: len(shown) > 3)
    sampler.stop()
    sampler._thread.join(5)

    assert not sampler._thread.is_alive()
    assert len(shown) == len(set(map(id, shown)))


def snapshot(*connections: Connection) -> Snapshot:
    """Return a snapshot with these connections to the publish port."""
    return Snapshot(0.0, {PUBLISH: list(connections), REQUEST: [connection("10.9.9.9", PORTS[1])]}, {})


def test_peers_are_the_established_connections_by_address() -> None:
    """Each established connection to the publish port counts for its address."""
    peers = publish_peers(
        snapshot(
            connection("10.0.0.1"),
            connection("10.0.0.1", peer_port=40001),
            connection("fd00::1"),
            connection("10.0.0.2", state=TIME_WAIT),
            connection("10.0.0.3", state=8),  # CLOSE_WAIT: the minion has closed it
        ),
        15.0,
    )

    assert {peer("10.0.0.1"): 2, peer("fd00::1"): 1} == peers.connections
    assert frozenset() == peers.silent


@pytest.mark.parametrize(
    ("fields", "silent_after", "silent"),
    [
        ({"last_received_ms": 15_000}, 15.0, False),
        ({"last_received_ms": 15_001}, 15.0, True),
        ({"last_received_ms": 10_000_000}, None, False),  # this line sends no heartbeats
        ({"timer": RETRANSMISSION, "retransmits": 7}, None, True),
        ({"timer": RETRANSMISSION, "retransmits": 6}, None, False),
        ({"timer": KEEPALIVE, "retransmits": 9}, None, False),
        ({"timer": PROBE, "retransmits": 9}, None, False),  # a closed window is answered: the host is there
    ],
)
def test_silence(fields: dict[str, int], silent_after: float | None, silent: object) -> None:
    """A host is silent when heartbeats stay away, or data is sent again and again without an acknowledgement."""
    peers = publish_peers(snapshot(connection("10.0.0.1", **fields)), silent_after)

    assert silent is (peer("10.0.0.1") in peers.silent)


def test_one_connection_that_answers_is_enough() -> None:
    """An address is silent only if all its connections are: an old half-open one does not hide the new one."""
    old, fresh = (connection("10.0.0.1", last_received_ms=age) for age in (30_000, 1000))

    assert frozenset() == publish_peers(snapshot(old, fresh), 15.0).silent
    assert {peer("10.0.0.1")} == publish_peers(snapshot(old, old), 15.0).silent


SYN_RECV, NEW_SYN_RECV = 3, 12


@pytest.mark.parametrize(
    ("fields", "reaching"),
    [
        ({}, False),
        ({"state": SYN_RECV}, True),  # our answer to its SYN does not get through
        ({"state": NEW_SYN_RECV}, True),
        ({"state": TIME_WAIT}, False),
        ({"send_queue": 20}, False),  # under way
        ({"send_queue": 20, "timer": RETRANSMISSION, "retransmits": 1}, False),  # a packet may get lost
        ({"send_queue": 20, "timer": RETRANSMISSION, "retransmits": 2}, True),
        ({"send_queue": 0, "timer": RETRANSMISSION, "retransmits": 2}, False),
        ({"send_queue": 20, "timer": PROBE, "retransmits": 9}, False),  # it answers, and takes nothing more
    ],
)
def test_whoever_tries_in_vain_to_reach_the_request_port(fields: dict[str, int], *, reaching: bool) -> None:
    """Answers of the master that nobody acknowledges tell that packets get through in one direction only."""
    others: list[Row] = [connection("10.0.0.2", PORTS[1], peer_port=5)]
    rows: list[Row] = [*others, connection("10.0.0.1", PORTS[1], **fields)]
    found = reaching_peers(Snapshot(0.0, {PUBLISH: rows, REQUEST: rows}, {}))

    assert ({peer("10.0.0.1")} if reaching else set()) == found
    assert frozenset() == reaching_peers(Snapshot(0.0, {PUBLISH: rows, REQUEST: others}, {}))


def test_sample_is_taken_soon_when_something_has_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is in a hurry does not wait for the interval, and however often that is, there is a least pause."""
    monkeypatch.setattr("salt_exporter.sampler._LEAST_PAUSE", 0.05)
    shown: list[Snapshot] = []
    sampler = Sampler(Kernel(table()), lambda: PORTS, 60.0)
    sampler.observers.append(shown.append)
    sampler.start()
    wait_until(lambda: len(shown) == 1)
    for number in (2, 3):
        for _ in range(100):
            sampler.look_soon()
        wait_until(lambda number=number: len(shown) == number)  # type: ignore[misc] # bound in the loop
    sampler.stop()
    sampler._thread.join(5)

    assert not sampler._thread.is_alive()
    assert all(after.taken - before.taken >= 0.05 for before, after in pairwise(shown))


def test_no_surprise_ends_the_sampling() -> None:
    """An error that nobody has thought of is logged, and the next sample is taken all the same."""
    calls = []

    def read(_ports: tuple[int, int]) -> SocketTable:
        calls.append(1)
        raise RuntimeError("nobody has thought of this")

    sampler = Sampler(read, lambda: (4505, 4506), 0.01)
    sampler.start()
    wait_until(lambda: len(calls) > 2)
    sampler.stop()
