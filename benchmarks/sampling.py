"""Benchmark: what watching all connections costs all the time, not how long one look takes."""

from __future__ import annotations

import time
from typing import Final

from benchmarks.connections import PORTS, Connections, connections
from benchmarks.listings import PSUTIL, PYROUTE2, SS, psutil_connections, pyroute2, ss
from benchmarks.measure import Contender, Row, Table, at_most, cpu_seconds, ratios, take_turns
from salt_exporter.analysis.ledger import Ledger
from salt_exporter.analysis.requests import Requests
from salt_exporter.analysis.stream import Stream, wire_size
from salt_exporter.analysis.subscriptions import Subscriptions
from salt_exporter.kernel.inet_diag import (
    BYTES_ACKED,
    BYTES_RECEIVED,
    COOKIE,
    LAST_RECEIVED_MS,
    PEER,
    SEND_QUEUE,
)
from salt_exporter.kernel.sock_diag import tcp_sockets
from salt_exporter.sampler import PUBLISH, REQUEST, Sampler

_ROUNDS: Final = 3
_INTERVAL: Final = 5.0  # seconds, the default of --sampler.interval
_HEARTBEAT: Final = 10.0  # seconds, Salt's
_HWM: Final = 1000

_OURS: Final = "**the sampler, with byte ledger, unanswered requests and who was connected when**"
_SAMPLER: Final = "the sampler alone"


class _Watch:
    """Does with each snapshot what the daemon does, while messages are published."""

    def __init__(self, held: Connections) -> None:
        self._held = held
        self._stream = Stream()
        self._ledger = Ledger(self._stream, _HWM, _HEARTBEAT)
        self._requests = Requests()
        self._subscriptions = Subscriptions()
        self._sampler = Sampler(tcp_sockets, lambda: PORTS, interval=0.0)

    def publish(self) -> None:
        """Let every subscriber get a message."""
        size = self._held.publish()
        message = next(message for message in range(size) if wire_size(message) == size)
        self._stream.append(message, time.monotonic())

    def sample(self) -> int:
        """Take a snapshot and show it to all; return how many connections were seen."""
        snapshot = self._sampler.snapshot()
        publish, request = snapshot.connections[PUBLISH], snapshot.connections[REQUEST]
        self._subscriptions.observe(publish, snapshot.taken)
        clients = (
            (row[COOKIE], row[BYTES_RECEIVED], row[BYTES_ACKED] + row[SEND_QUEUE], row[LAST_RECEIVED_MS] / 1e3)
            for row in request
        )
        self._requests.observe(clients, snapshot.taken, _HEARTBEAT)
        subscribers = [(row[COOKIE], row[PEER], row[BYTES_ACKED], row[SEND_QUEUE]) for row in publish]
        self._ledger.observe(subscribers, self._stream.position, self._stream.position, snapshot.taken)
        if self._ledger.dropped_messages:
            raise RuntimeError(f"{self._ledger.dropped_messages} drops were counted where there were none")
        return len(self._ledger.accounts) + len(request)

    def snapshot(self) -> int:
        """Take a snapshot for nobody; return how many connections were seen."""
        return sum(map(len, self._sampler.snapshot().connections.values()))


def sampling(each: int) -> Table:
    """Compare what this many connections to each port cost, looked at every 5 seconds."""
    with connections(2 * each) as held:
        watch = _Watch(held)
        watch.sample()
        found = []
        for _ in range(_ROUNDS):
            watch.publish()
            contenders = {
                _OURS: Contender(watch.sample),
                _SAMPLER: Contender(watch.snapshot),
                SS: Contender(lambda: len(ss())),
                PSUTIL: Contender(lambda: len(psutil_connections())),
                PYROUTE2: Contender(lambda: len(pyroute2())),
            }
            found.append(take_turns(1, contenders, cpu_seconds))
    rows = []
    for name in found[0]:
        seconds = [one[name].seconds[0] for one in found]
        if {one[name].answer for one in found} != {2 * each}:
            raise RuntimeError(f"{name} did not find {2 * each} connections")
        percent = [100 * number / _INTERVAL for number in seconds]
        goal = at_most(5, percent, " % of a core") if name == _OURS else None
        rows.append(Row(name, ratios(seconds, [one[_OURS].seconds[0] for one in found]), percent, goal))
    return Table(
        f"Watching {each:,} + {each:,} connections",
        "CPU time of one look at established connections to two ports, the kernel's included, as a share of the 5 "
        "seconds from one look to the next. Between any two looks every client of the first port is sent a message, "
        "which the byte ledger has to follow; the others only list.",
        "times ours",
        "% of a core",
        rows,
    )
