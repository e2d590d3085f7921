"""A model of libzmq's PUB socket, the kernel and subscribers, in small steps of time: the truth for the ledger.

From libzmq 4.3: src/pipe.cpp (high- and low-water mark), src/dist.cpp (a full pipe is passed over),
src/stream_engine_base.cpp (batches of 8 KiB, heartbeats ahead of messages).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import count
from random import Random

from salt_exporter.analysis.ledger import HANDSHAKE, PING, SETTLE, Ledger, Subscriber
from salt_exporter.analysis.stream import Stream, wire_size

TICK = 0.05  # seconds
_SETTLE_TICKS = round(SETTLE / TICK)
_BATCH = 8192
_cookies = count(1)


@dataclass
class Connection:
    """One subscriber of the publisher, from ZeroMQ's queue to the process that reads."""

    hwm: int
    send_buffer: int = 100_000
    receive_buffer: int = 100_000
    rate: float = float("inf")  # bytes per second that the subscriber reads
    heartbeat: float = 0.0
    late: int = 0  # ticks for which the publisher does not get round to it
    cookie: int = field(default_factory=lambda: next(_cookies))
    queue: deque[int] = field(default_factory=deque)
    batch: int = 0  # bytes that the engine has taken
    written: int = 0
    read: int = 0
    credit: int = 0
    handed: int = HANDSHAKE
    acked: int = HANDSHAKE
    consumed: float = HANDSHAKE
    offered_bytes: int = 0
    dropped: list[int] = field(default_factory=list)
    dropped_numbers: list[int] = field(default_factory=list)
    ping_due: float = 0.0

    @property
    def lwm(self) -> int:
        """Messages from one credit to the next."""
        return max(1, (self.hwm + 1) // 2)

    @property
    def waiting_bytes(self) -> int:
        """Bytes that ZeroMQ has for it."""
        return sum(self.queue) + self.batch

    def offer(self, number: int, size: int, now: float) -> None:
        """Queue a message of this number and size on the wire, or drop it."""
        self.offered_bytes += size
        if self.hwm and self.written - self.credit >= self.hwm:
            self.dropped.append(size)
            self.dropped_numbers.append(number)
            return
        self.queue.append(size)
        self.written += 1
        self.hand_over(now)

    def step(self, now: float) -> None:
        """Let the subscriber read, the kernel move bytes and the engine hand over."""
        self.consumed = min(self.acked, self.consumed + self.rate * TICK)
        self._move()
        self.late = max(0, self.late - 1)
        self.hand_over(now)

    def hand_over(self, now: float) -> None:
        """Let the engine hand to the kernel what that takes, unless the publisher is late."""
        if self.late:
            return
        while True:
            if not self.batch:
                self._load(now)
            free = self.send_buffer - (self.handed - self.acked)
            if not self.batch or not free:
                return
            moved = min(free, self.batch)
            self.handed += moved
            self.batch -= moved
            self._move()

    def _move(self) -> None:
        if self.rate == float("inf"):
            self.consumed = self.acked = self.handed
        self.acked = min(self.handed, int(self.consumed) + self.receive_buffer)

    def _load(self, now: float) -> None:
        if self.heartbeat and now >= self.ping_due:
            self.ping_due = now + self.heartbeat
            self.batch += PING
        while self.queue and self.batch < _BATCH:
            self.batch += self.queue.popleft()
            self.read += 1
            if self.read % self.lwm == 0:
                self.credit = self.read


@dataclass
class World:
    """A publisher with its connections, our own subscriber, and the ledger that is told what can be seen."""

    hwm: int = 10
    heartbeat: float = 0.0
    interval: float = 1.0
    seed: int = 0
    connections: list[Connection] = field(default_factory=list)
    deaf: bool = False  # our own subscriber misses messages
    delay: float = SETTLE - TICK  # until our own subscriber has a message, at most
    suspended: bool = False  # no samples are taken

    def __post_init__(self) -> None:
        self.random = Random(self.seed)  # noqa: S311 - a schedule
        self.stream = Stream()
        self.ledger = Ledger(self.stream, self.hwm, self.heartbeat)
        self.now = 1000.0
        self.published = 0
        self.highest_ratio = 0.0
        self._under_way: deque[tuple[float, int]] = deque()
        self._next_sample = self.now
        self._dump: tuple[list[Subscriber], float] | None = None

    def connect(self, **options: float) -> Connection:
        """Open a connection."""
        connection = Connection(self.hwm, heartbeat=self.heartbeat, **options)  # type: ignore[arg-type] # of the class
        connection.ping_due = self.now + self.random.uniform(0, self.heartbeat)
        self.connections.append(connection)
        return connection

    def publish(self, size: int) -> None:
        """Publish a message of this size."""
        for connection in self.connections:
            connection.offer(self.published, wire_size(size), self.now)
        self.published += 1
        if not self.deaf:
            earliest = self._under_way[-1][0] if self._under_way else 0.0
            self._under_way.append((max(earliest, self.now + self.random.uniform(0, self.delay)), size))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds / TICK)):
            self._tick()

    def settle(self) -> None:
        """Let every subscriber catch up, and samples be taken with nothing going on."""
        self.suspended = False
        for connection in self.connections:
            connection.rate = float("inf")
        self.run(4 * self.interval + 4)

    @property
    def dropped(self) -> list[int]:
        """The sizes of the messages that were dropped for connections that are still there."""
        return [size for connection in self.connections for size in connection.dropped]

    def _tick(self) -> None:
        self.now += TICK
        for connection in self.connections:
            connection.step(self.now)
        while self._under_way and self._under_way[0][0] <= self.now:
            self.stream.append(self._under_way.popleft()[1], self.now)
        if self._dump and self.now >= self._dump[1] + SETTLE + TICK / 2:
            self._observe(*self._dump)
            self._dump = None
        elif not self._dump and not self.suspended and self.now >= self._next_sample:
            self._next_sample = self.now + self.interval
            self._dump = self._look(), self.now

    def _look(self) -> list[Subscriber]:
        return [
            Subscriber(each.cookie, b"\x0a\0\0\x01", each.acked, each.handed - each.acked) for each in self.connections
        ]

    def _observe(self, subscribers: list[Subscriber], taken: float) -> None:
        before = self.stream.position_at(taken - SETTLE)
        counted = self.ledger.dropped_messages, self.ledger.dropped_bytes
        self.ledger.observe(subscribers, before, self.stream.position, taken)
        assert counted <= (self.ledger.dropped_messages, self.ledger.dropped_bytes)
        self.highest_ratio = max(account.fill for account in self.ledger.accounts.values()) if subscribers else 0.0
