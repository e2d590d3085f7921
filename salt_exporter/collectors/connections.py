"""TCP connections of the two channels, as the kernel holds them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar, Final

from salt_exporter.kernel.inet_diag import ESTABLISHED, PEER, STATE, STATES
from salt_exporter.kernel.netstat import tcp_ext
from salt_exporter.metric import Metric, Sample, counter, gauge
from salt_exporter.sampler import CHANNELS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from salt_exporter.world import World

CONNECTIONS = gauge(
    "salt_connections",
    "TCP connections of the master by channel (publish is 4505, request is 4506) and state, from the kernel's sockets.",
    "channel",
    "state",
)
PEERS = gauge(
    "salt_connections_peers",
    "Distinct peer addresses with an established connection, by channel; IPv4-mapped IPv6 addresses count as IPv4.",
    "channel",
)
OPENED = counter(
    "salt_connections_opened_total",
    "Connections that appeared between two samples of the kernel's socket table, told apart by socket cookie.",
    "channel",
)
CLOSED = counter(
    "salt_connections_closed_total",
    "Connections that disappeared between two samples of the kernel's socket table, told apart by socket cookie.",
    "channel",
)
RETRANSMITTED = counter(
    "salt_connections_retransmitted_bytes_total",
    "Bytes that the kernel had to send again (tcpi_bytes_retrans), summed over connections while they are open.",
    "channel",
)
LISTEN_QUEUE = gauge(
    "salt_connections_listen_queue",
    "Connections that wait for the master to accept them: the accept queue of the listening socket.",
    "channel",
)
LISTEN_QUEUE_LIMIT = gauge(
    "salt_connections_listen_queue_limit",
    "Size of the accept queue as the kernel holds it: the smaller of zmq_backlog and net.core.somaxconn.",
    "channel",
)
LISTEN_OVERFLOWS = counter(
    "salt_connections_listen_overflows_total",
    "Times an accept queue of this host was full (TcpExt ListenOverflows in /proc/net/netstat; all listeners).",
)
LISTEN_DROPS = counter(
    "salt_connections_listen_drops_total",
    "Connection attempts to this host that were dropped (TcpExt ListenDrops in /proc/net/netstat; all listeners).",
)

# `syn_recv` stands twice in the kernel's list of states.
_STATES: Final = tuple(dict.fromkeys(name for name in STATES.values() if name not in ("listen", "close")))


class ConnectionsCollector:
    """Counts what the newest snapshot of the kernel's sockets shows."""

    name: ClassVar[str] = "connections"
    metrics: ClassVar[tuple[Metric, ...]] = (
        CONNECTIONS,
        PEERS,
        OPENED,
        CLOSED,
        RETRANSMITTED,
        LISTEN_QUEUE,
        LISTEN_QUEUE_LIMIT,
        LISTEN_OVERFLOWS,
        LISTEN_DROPS,
    )

    def __init__(self, world: World) -> None:
        self._world = world

    def collect(self) -> Iterator[Sample]:
        """Yield the samples of now."""
        sampler = self._world.sampler
        snapshot = sampler.snapshot()
        for channel in CHANNELS:
            rows = snapshot.connections[channel]
            states = Counter(STATES.get(row[STATE], "close") for row in rows)
            for state in (*_STATES, *(states.keys() - set(_STATES))):
                yield CONNECTIONS(states[state], channel=channel, state=state)
            yield PEERS(len({row[PEER] for row in rows if row[STATE] == ESTABLISHED}), channel=channel)
            churn = sampler.churn[channel]
            yield OPENED(churn.opened, channel=channel)
            yield CLOSED(churn.closed, channel=channel)
            yield RETRANSMITTED(churn.retransmitted_bytes, channel=channel)
            listeners = snapshot.listeners[channel]
            yield LISTEN_QUEUE(sum(listener.accept_queue for listener in listeners), channel=channel)
            yield LISTEN_QUEUE_LIMIT(sum(listener.accept_limit for listener in listeners), channel=channel)
        kernel = tcp_ext()
        yield LISTEN_OVERFLOWS(kernel["ListenOverflows"])
        yield LISTEN_DROPS(kernel["ListenDrops"])
