"""The event bus reader against real sockets: everything arrives, it always drains, reconnects, says what is wrong."""

from __future__ import annotations

import logging
import socket
import struct
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgpack
import pytest

from salt_exporter.errors import SourceError
from salt_exporter.master import bus
from salt_exporter.master.bus import BusAddress, BusReader
from tests.unit.tools import public_folder, unprivileged, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

DATA = Path(__file__).parents[1] / "data"
PORTS = range(15000, 15040)  # of the loopback
LOST = b"(lost)"  # stands in the list of bodies where `lost` was called


def frame(body: bytes) -> bytes:
    """Frame a body as 3007 and 3008 do."""
    packed: bytes = msgpack.packb({"head": {}, "body": body})
    return packed


class Master:
    """The publishing end of an event bus: what it is told to send goes to all who are connected."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._connections: list[socket.socket] = []
        self._ports: Sequence[int] = PORTS
        self.accepted = 0
        self.start()

    def start(self) -> None:
        """Listen, as after a restart."""
        self._listener = socket.socket(socket.AF_UNIX if self._path else socket.AF_INET)
        self.address = self._bind()
        self._listener.listen()
        self._thread = threading.Thread(target=self._accept_forever)
        self._thread.start()

    def _bind(self) -> BusAddress:
        if self._path:
            self._listener.bind(str(self._path))
            return BusAddress(path=self._path)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for port in self._ports:
            with suppress(OSError):
                self._listener.bind(("127.0.0.1", port))
                self._ports = [port]  # the same one after a restart
                return BusAddress(port=port)
        raise AssertionError("no free port")

    def _accept_forever(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(10)
            self._connections.append(connection)
            self.accepted += 1

    def send(self, data: bytes) -> None:
        """Send to the reader, which must be connected or about to be; fail if it does not drain."""
        wait_until(lambda: self._connections)
        for connection in self._connections:
            connection.sendall(data)

    def hang_up(self) -> None:
        """Close all connections."""
        while self._connections:
            connection = self._connections.pop()
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def close(self) -> None:
        """End as a master does: the connections are closed, the socket's file is gone."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        self.hang_up()
        if self._path:
            self._path.unlink()


class Taker:
    """What the reader delivers to: keeps it all, with a mark where some was lost."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.batches: list[int] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def deliver(self, bodies: Sequence[bytes]) -> None:
        """Take a batch, when allowed to."""
        assert self.may_go_on.wait(30)
        self.batches.append(len(bodies))
        self.bodies += bodies

    def lost(self) -> None:
        """Take note that events are missing here."""
        self.bodies.append(LOST)


class Pauses(threading.Event):
    """A stop flag that notes how long it was waited for, and does not wait."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        """Note the pause."""
        assert timeout is not None
        self.seconds.append(timeout)
        return super().wait(0.001)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten what nobody likes to wait for; what it bounds is the same."""
    monkeypatch.setattr(bus, "_POLL", 0.05)
    monkeypatch.setattr(bus, "_BACKOFF", (0.01, 0.02))


@pytest.fixture(params=["unix", "tcp"])
def master(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Master]:
    """Yield a master with each kind of socket."""
    with closing(Master(tmp_path / "master_event_pub.ipc" if request.param == "unix" else None)) as master:
        yield master


@pytest.fixture
def unix_master(tmp_path: Path) -> Iterator[Master]:
    """Yield a master with a unix socket."""
    with closing(Master(tmp_path / "master_event_pub.ipc")) as master:
        yield master


@pytest.fixture
def taker() -> Taker:
    """Return an empty taker."""
    return Taker()


@pytest.fixture
def read(taker: Taker) -> Iterator[Callable[[BusAddress], BusReader]]:
    """Return a starter of readers that deliver to the taker; they are stopped at the end."""
    readers = []

    def start(address: BusAddress) -> BusReader:
        reader = BusReader(lambda: address, taker.deliver, taker.lost)
        readers.append(reader)
        reader.start()
        return reader

    yield start
    taker.may_go_on.set()
    for reader in readers:
        reader.stop()


@pytest.mark.parametrize("line", ["3006", "3007", "3008"])
def test_everything_that_is_sent_arrives_in_order(
    master: Master, taker: Taker, read: Callable[[BusAddress], BusReader], line: str
) -> None:
    """A recorded stream comes out as its events, whichever the socket and the framing."""
    data = (DATA / f"bus-{line}.bin").read_bytes()
    reader = read(master.address)

    for start in range(0, len(data), 999):
        master.send(data[start : start + 999])
    wait_until(lambda: reader.counters.received_bytes == len(data))
    reader.stop()

    rebuilt = b"".join(
        (struct.pack(">I", len(frame(body))) if line == "3006" else b"") + frame(body) for body in taker.bodies[:-1]
    )
    assert data == rebuilt
    assert [LOST] == taker.bodies[-1:]  # when the reader stops, and not before
    assert (0, 0, 0) == (reader.counters.decode_errors, reader.counters.shed, reader.counters.reconnects)


def test_batches_are_bounded(unix_master: Master, taker: Taker, read: Callable[[BusAddress], BusReader]) -> None:
    """However many events wait, no more than a batch is handed on at once, so that a lock is not held for long."""
    taker.may_go_on.clear()
    reader = read(unix_master.address)
    data = b"".join(frame(b"%d" % number) for number in range(3 * bus.BATCH))
    unix_master.send(data)
    wait_until(lambda: reader.counters.received_bytes == len(data))
    taker.may_go_on.set()
    wait_until(lambda: len(taker.bodies) == 3 * bus.BATCH)

    assert [b"%d" % number for number in range(3 * bus.BATCH)] == taker.bodies
    assert max(taker.batches) <= bus.BATCH


def test_restarted_master_is_found_again(
    master: Master, taker: Taker, read: Callable[[BusAddress], BusReader], caplog: pytest.LogCaptureFixture
) -> None:
    """When the master goes away the reader says so, marks the place, and reads on as soon as it is back."""
    reader = read(master.address)
    master.send(frame(b"before"))
    wait_until(lambda: taker.bodies)
    master.close()
    wait_until(lambda: not reader.counters.connected)
    closed = reader.problem
    wait_until(lambda: "cannot connect" in reader.problem)
    time.sleep(0.1)  # some more attempts
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    master.start()
    master.send(frame(b"after"))
    wait_until(lambda: len(taker.bodies) == 3)

    assert [b"before", LOST, b"after"] == taker.bodies
    assert (True, 1, "") == (reader.counters.connected, reader.counters.reconnects, reader.problem)
    assert "is the salt-master restarting?" in closed or "cannot connect" in closed
    assert len(warnings) == len(set(warnings)) == 2  # that it was closed, and that it is not there: each once


def test_broken_connection_is_replaced_while_the_master_listens(
    unix_master: Master, taker: Taker, read: Callable[[BusAddress], BusReader]
) -> None:
    """A master that cuts the exporter off gets it back, and the gap is marked between the events around it."""
    reader = read(unix_master.address)
    for number in range(3):
        unix_master.send(frame(b"%d" % number))
        wait_until(lambda number=number: b"%d" % number in taker.bodies)  # type: ignore[misc]
        unix_master.hang_up()

    wait_until(lambda: reader.counters.reconnects == 3)
    assert [b"0", LOST, b"1", LOST, b"2", LOST] == taker.bodies


def test_idle_bus_is_no_broken_one(unix_master: Master, taker: Taker, read: Callable[[BusAddress], BusReader]) -> None:
    """A master that has nothing to say for a while keeps its connection."""
    reader = read(unix_master.address)
    wait_until(lambda: reader.counters.connected)
    time.sleep(4 * bus._POLL)
    unix_master.send(frame(b"a"))
    wait_until(lambda: taker.bodies)

    assert [b"a"] == taker.bodies
    assert 0 == reader.counters.reconnects


def test_backoff_grows_to_its_end_and_is_jittered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Attempts become rarer up to the last pause, each between half of it and the whole."""
    monkeypatch.setattr(bus, "_BACKOFF", (1.0, 2.0, 4.0))
    pauses = Pauses()
    reader = BusReader(lambda: BusAddress(path=tmp_path / "none"), Taker().deliver, Taker().lost)
    reader._stop = pauses
    reader.start()
    wait_until(lambda: len(pauses.seconds) > 40)
    reader.stop()

    for pause, whole in zip(pauses.seconds, [1.0, 2.0] + [4.0] * 100, strict=False):
        assert whole / 2 <= pause <= whole
    assert len(set(pauses.seconds)) > 20


def test_master_that_hangs_up_at_once_is_not_stormed(monkeypatch: pytest.MonkeyPatch, unix_master: Master) -> None:
    """Connections that end as soon as they stand are no success: the next attempt waits, and longer each time."""
    monkeypatch.setattr(bus, "_BACKOFF", (1.0, 2.0, 4.0))
    pauses = Pauses()
    reader = BusReader(lambda: unix_master.address, Taker().deliver, Taker().lost)
    reader._stop = pauses
    reader.start()
    for number in range(1, 5):
        wait_until(lambda number=number: unix_master.accepted >= number)  # type: ignore[misc]
        unix_master.hang_up()
    wait_until(lambda: unix_master.accepted == 5)

    assert 4 == len(pauses.seconds)
    assert all(whole / 2 <= pause <= whole for pause, whole in zip(pauses.seconds, (1.0, 2.0, 4.0, 4.0), strict=True))
    reader.stop()


def test_connection_that_lasted_is_followed_by_the_next_at_once(
    monkeypatch: pytest.MonkeyPatch, unix_master: Master
) -> None:
    """After hours of reading nobody waits before connecting again: each moment may cost events."""
    monkeypatch.setattr(bus, "_STABLE", 0.0)
    pauses = Pauses()
    reader = BusReader(lambda: unix_master.address, Taker().deliver, Taker().lost)
    reader._stop = pauses
    reader.start()
    wait_until(lambda: unix_master.accepted == 1)
    unix_master.hang_up()
    wait_until(lambda: unix_master.accepted == 2)
    reader.stop()

    assert [] == pauses.seconds


def test_missing_socket_is_told_with_the_way_out(tmp_path: Path) -> None:
    """No socket there: the sentence names it and asks whether the master runs."""
    with pytest.raises(SourceError, match=r"bus .*/none: it does not exist; is the salt-master running.*sock_dir"):
        BusAddress(path=tmp_path / "none").connect()


def test_denied_socket_is_told_with_the_way_out() -> None:
    """A socket of another user: the sentence says as whom to run."""
    with public_folder() as folder, closing(Master(folder / "bus")) as master:
        (folder / "bus").chmod(0)

        with (
            unprivileged(),
            pytest.raises(SourceError, match="permission denied; run the exporter as the user the salt"),
        ):
            master.address.connect()


def test_refused_connection_is_told_with_the_way_out(tmp_path: Path) -> None:
    """Nobody listens, on a socket left behind or on the port: the sentence says that no master does."""
    with socket.socket(socket.AF_UNIX) as left_behind, socket.socket() as unused:
        left_behind.bind(str(tmp_path / "bus"))
        unused.bind(("127.0.0.1", 15041))

        for address in (BusAddress(path=tmp_path / "bus"), BusAddress(port=15041)):
            with pytest.raises(SourceError, match=f"bus {address}: connection refused; no salt-master is listening"):
                address.connect()


def test_address_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    """A path longer than a socket's may be is a sentence too."""
    with pytest.raises(SourceError, match=r"cannot connect to the event bus .*too long"):
        BusAddress(path=tmp_path / ("x" * 200)).connect()


def test_each_problem_is_logged_once(taker: Taker, caplog: pytest.LogCaptureFixture) -> None:
    """A problem that lasts is one line, the next one is another, and it shows until a connection stands."""
    sentences = ["first problem"]
    asked = []

    def address() -> BusAddress:
        asked.append(1)
        raise SourceError(sentences[-1])

    reader = BusReader(address, taker.deliver, taker.lost)
    assert "not connected to the event bus yet" == reader.problem
    reader.start()
    wait_until(lambda: len(asked) > 5)
    sentences.append("second problem")
    count = len(asked)
    wait_until(lambda: len(asked) > count + 5)
    reader.stop()

    assert ["first problem", "second problem"] == [record.message for record in caplog.records]
    assert "second problem" == reader.problem


def test_address_is_asked_anew_for_each_connection(tmp_path: Path, taker: Taker) -> None:
    """A master that comes back with another socket is found there."""
    with closing(Master(tmp_path / "old")) as old, closing(Master(tmp_path / "new")) as new:
        addresses = [new.address, old.address]
        reader = BusReader(lambda: addresses.pop() if len(addresses) > 1 else addresses[0], taker.deliver, taker.lost)
        reader.start()
        old.send(frame(b"old"))
        wait_until(lambda: taker.bodies)
        old.hang_up()
        new.send(frame(b"new"))
        wait_until(lambda: b"new" in taker.bodies)
        reader.stop()

    assert [b"old", LOST, b"new"] == taker.bodies[:3]


def test_garbage_is_counted_and_marks_a_gap(
    unix_master: Master, taker: Taker, read: Callable[[BusAddress], BusReader], caplog: pytest.LogCaptureFixture
) -> None:
    """Bytes that make no sense are counted, logged and marked: an event may have been among them."""
    reader = read(unix_master.address)
    unix_master.send(frame(b"a") + b"\0garbage" * 9 + frame(b"b"))
    wait_until(lambda: len(taker.bodies) == 3)

    assert [b"a", b"b", LOST] == taker.bodies
    assert 1 == reader.counters.decode_errors
    assert ["skipped bytes on the event bus that were no event"] == [
        record.message for record in caplog.records if record.levelno == logging.WARNING
    ]


def test_slow_decoding_sheds_instead_of_holding_up_the_master(
    monkeypatch: pytest.MonkeyPatch,
    unix_master: Master,
    taker: Taker,
    read: Callable[[BusAddress], BusReader],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """While nobody takes the events the bus is drained all the same: what does not fit is counted, and marks a gap."""
    monkeypatch.setattr(bus, "BACKLOG", 1_000_000)
    taker.may_go_on.clear()
    reader = read(unix_master.address)
    events = [b"%06d" % number + bytes(994) for number in range(5000)]
    data = b"".join(map(frame, events))
    unix_master.send(data)  # far more than backlog and socket hold: fails if it is not drained
    wait_until(lambda: reader.counters.received_bytes == len(data))
    held = list(reader._bodies)
    taker.may_go_on.set()
    wait_until(lambda: not reader._bodies)
    unix_master.send(frame(b"005000" + bytes(900_000)))  # there is room for it again
    wait_until(lambda: taker.bodies[-1].startswith(b"005000"))

    runs = [run.split() for run in b" ".join(body[:6] for body in taker.bodies).split(LOST)]
    assert 2 <= len(runs)
    for run in runs:  # between two marks nothing is missing
        assert [b"%06d" % number for number in range(int(run[0]), int(run[0]) + len(run))] == run
    assert 5001 == sum(map(len, runs)) + reader.counters.shed
    assert 0 < sum(len(body) for body in held if body) <= bus.BACKLOG
    assert 1 == sum("throwing events away" in record.message for record in caplog.records)


def test_batch_that_cannot_be_digested_costs_only_itself(
    unix_master: Master, taker: Taker, caplog: pytest.LogCaptureFixture
) -> None:
    """A failure behind the reader is logged and marked as a gap, and the next events are handed on."""

    def deliver(bodies: Sequence[bytes]) -> None:
        if b"bad" in bodies:
            raise ZeroDivisionError
        taker.deliver(bodies)

    reader = BusReader(lambda: unix_master.address, deliver, taker.lost)
    reader.start()
    unix_master.send(frame(b"bad"))
    wait_until(lambda: taker.bodies)
    unix_master.send(frame(b"good"))
    wait_until(lambda: len(taker.bodies) == 2)
    reader.stop()

    assert [LOST, b"good"] == taker.bodies[:2]
    assert ["lost a batch of 1 events"] == [record.message for record in caplog.records if record.exc_info]


def test_stop_delivers_what_has_arrived(
    monkeypatch: pytest.MonkeyPatch, unix_master: Master, read: Callable[[BusAddress], BusReader], taker: Taker
) -> None:
    """Events that were received before the end are counted, however slowly."""
    monkeypatch.setattr(bus, "BATCH", 1)
    taker.may_go_on.clear()
    reader = read(unix_master.address)
    data = b"".join(frame(b"%d" % number) for number in range(100))
    unix_master.send(data)
    wait_until(lambda: reader.counters.received_bytes == len(data))
    threading.Timer(0.2, taker.may_go_on.set).start()
    reader.stop()

    assert [b"%d" % number for number in range(100)] == taker.bodies[:100]


def test_stop_between_receiving_and_handing_on_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, unix_master: Master, read: Callable[[BusAddress], BusReader], taker: Taker
) -> None:
    """What the receiving thread has in its hands when told to stop is delivered as well."""
    reader = read(unix_master.address)
    enqueue = reader._enqueue

    def enqueue_after_stop(bodies: list[bytes]) -> None:
        reader._stop.set()
        with reader._work:
            reader._work.notify_all()
        time.sleep(0.1)
        enqueue(bodies)

    monkeypatch.setattr(reader, "_enqueue", enqueue_after_stop)
    unix_master.send(frame(b"last"))
    wait_until(reader._stop.is_set)
    reader.stop()

    assert [b"last"] == taker.bodies[:1]


@pytest.mark.parametrize("situation", ["idle", "not there", "hanging"])
def test_stop_returns_in_time(
    unix_master: Master, taker: Taker, read: Callable[[BusAddress], BusReader], tmp_path: Path, situation: str
) -> None:
    """Connected or not, and even if what it delivers to hangs, the reader does not hold up the exporter's end."""
    reader = read(BusAddress(path=tmp_path / "none") if situation == "not there" else unix_master.address)
    if situation == "hanging":
        taker.may_go_on.clear()
        unix_master.send(frame(b"a"))
        wait_until(lambda: reader.counters.received_bytes)
    elif situation == "idle":
        wait_until(lambda: reader.counters.connected)
    began = time.monotonic()
    reader.stop(timeout=2 if situation == "hanging" else 10)

    assert time.monotonic() - began < 5
    assert not reader.counters.connected


def test_stop_does_not_wait_for_what_hangs_twice(taker: Taker) -> None:
    """The time to stop in is that of all threads together."""
    hangs = threading.Event()

    def address() -> BusAddress:
        hangs.wait(20)
        raise SourceError("no settings")

    reader = BusReader(address, taker.deliver, taker.lost)
    reader.start()
    began = time.monotonic()
    reader.stop(timeout=2)
    took = time.monotonic() - began
    hangs.set()
    reader.stop()

    assert took < 3.5


@pytest.mark.parametrize(
    ("address", "text"), [(BusAddress(path=Path("/a/b")), "/a/b"), (BusAddress(port=4512), "127.0.0.1:4512")]
)
def test_address_is_shown_as_operators_write_it(address: BusAddress, text: str) -> None:
    """Messages name the socket's path, or host and port."""
    assert text == str(address)
