"""Who reads the master's event bus, and what waits to be read: from the kernel's sockets.

Of a connection over a unix socket the kernel tells what the consumer has not read; what the master has not been able to
hand to the kernel is in its own memory, and nothing outside shows it. Of one over TCP (`ipc_mode: tcp`) it also tells
what has been handed over and not received.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Final, NamedTuple

import psutil

from salt_exporter.kernel.descriptors import SocketOwners
from salt_exporter.kernel.inet_diag import ESTABLISHED, INODE, LOCAL_PORT, PEER_PORT, RECEIVE_QUEUE, SEND_QUEUE
from salt_exporter.kernel.sock_diag import tcp_sockets, unix_sockets
from salt_exporter.kernel.unix_diag import connections
from salt_exporter.master.titles import name_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from salt_exporter.kernel.inet_diag import Row
    from salt_exporter.kernel.unix_diag import UnixSocket
    from salt_exporter.master.bus import BusAddress

UNKNOWN: Final = "unknown"  # the process is not ours to look at
OURSELVES: Final = "salt-exporter"
_MAX_TCP: Final = 1000  # consumers looked at over TCP; the kernel's filter takes some 3,000 ports


class Queue(NamedTuple):
    """What waits for one consumer."""

    inode: int  # of the consumer's socket
    unread_bytes: int


class Consumer(NamedTuple):
    """One client of the bus."""

    process: str  # a readable name
    unread_bytes: int


class BusConsumers:
    """Looks at the consumers of a bus; remembers between looks which process a socket belongs to."""

    def __init__(self) -> None:
        self._owners = SocketOwners()

    def look(self, address: BusAddress) -> list[Consumer]:
        """Return the consumers of now, ourselves among them. Raises SourceError."""
        queues = list(over_unix(unix_sockets(), str(address.path)) if address.path else _tcp_queues(address.port))
        owners = self._owners.find({queue.inode for queue in queues})
        return [Consumer(_process_name(owners.get(queue.inode)), queue.unread_bytes) for queue in queues]


def over_unix(sockets: Iterable[UnixSocket], path: str) -> Iterator[Queue]:
    """Yield the queues of the connections to a unix socket."""
    for pair in connections(sockets, path):
        yield Queue(pair.client.inode, pair.client.receive_queue)


def over_tcp(servers: Iterable[Row], clients: Iterable[Row]) -> Iterator[Queue]:
    """Yield the queues of TCP connections within this machine, given the rows of both ends, established."""
    ends = {(row[LOCAL_PORT], row[PEER_PORT]): row for row in clients}
    for row in servers:
        client = ends.get((row[PEER_PORT], row[LOCAL_PORT]))
        if client:
            yield Queue(client[INODE], row[SEND_QUEUE] + client[RECEIVE_QUEUE])


def _tcp_queues(port: int) -> Iterator[Queue]:
    servers = _established({port})[:_MAX_TCP]
    ports = {socket.ntohs(row[PEER_PORT]) for row in servers}
    return over_tcp(servers, _established(ports) if ports else [])


def _established(ports: set[int]) -> list[Row]:
    return tcp_sockets(ports, states=1 << ESTABLISHED, info=False).connections


def _process_name(pid: int | None) -> str:
    if pid is None:
        return UNKNOWN
    if pid == os.getpid():
        return OURSELVES
    try:
        process = psutil.Process(pid)
        return name_of(process.cmdline()) or process.name()
    except psutil.Error:  # it has ended meanwhile
        return UNKNOWN
