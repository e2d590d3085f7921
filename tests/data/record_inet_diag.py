"""Record what this machine's kernel answers about a few TCP sockets of our own on the loopback.

    python tests/data/record_inet_diag.py

writes tests/data/inet-diag-<name>.bin: what each `recv` of one dump returned, its length in 4 bytes (little-endian)
before it. Ports and addresses are fixed, so that tests/unit/test_inet_diag.py knows what must come out.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from salt_exporter.kernel.inet_diag import Dump, dump_request

if TYPE_CHECKING:
    from collections.abc import Callable

_DATA: Final = Path(__file__).parent
_NETLINK_SOCK_DIAG: Final = 4
_CLIENTS: Final = 15050  # the client n connects from this port + n


class Sockets(contextlib.ExitStack):
    """Opens sockets, and closes them all at the end."""

    def listen(self, host: str, port: int, backlog: int) -> socket.socket:
        """Return a listening socket; on `::` it takes IPv4 too."""
        listener = self.enter_context(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if host == "::":
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((host, port))
        listener.listen(backlog)
        return listener

    def connect(self, source: str, number: int, listener: socket.socket) -> socket.socket:
        """Return the client `number`; it closes with a reset, so that its port is free for the next run."""
        client = self.enter_context(socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.bind((source, _CLIENTS + number))
        client.connect(("::1" if ":" in source else "127.0.0.1", listener.getsockname()[1]))
        return client

    def accept(self, listener: socket.socket) -> socket.socket:
        """Return the listener's side of the next connection."""
        return self.enter_context(listener.accept()[0])


def ipv4(sockets: Sockets) -> None:
    """Four connections: one that has been talked over, one not read by us, one not read by the client, one waiting."""
    listener = sockets.listen("127.0.0.1", 15040, backlog=7)
    talking, _, _, _ = (sockets.connect(f"127.0.0.{number}", number, listener) for number in (1, 2, 3, 4))
    first, _, full = (sockets.accept(listener) for _ in range(3))
    talking.send(bytes(100))
    first.recv(100)
    first.send(bytes(5000))
    talking.recv(5000, socket.MSG_WAITALL)
    full.setblocking(False)  # noqa: FBT003
    with contextlib.suppress(BlockingIOError):
        while True:
            full.send(bytes(1 << 16))


def unread(sockets: Sockets) -> None:
    """One connection whose client has sent 50 bytes that nobody has read yet."""
    listener = sockets.listen("127.0.0.1", 15045, backlog=1)
    client = sockets.connect("127.0.0.43", 43, listener)
    sockets.accept(listener)
    client.send(bytes(50))


def ipv6(sockets: Sockets) -> None:
    """Two connections over IPv6."""
    listener = sockets.listen("::1", 15041, backlog=3)
    for number in (5, 6):
        sockets.connect("::1", number, listener)
        sockets.accept(listener)


def mapped(sockets: Sockets) -> None:
    """One connection over IPv4 and one over IPv6 to the same listener."""
    listener = sockets.listen("::", 15042, backlog=3)
    for source, number in (("127.0.0.7", 7), ("::1", 8)):
        sockets.connect(source, number, listener)
        sockets.accept(listener)


def closed(sockets: Sockets) -> None:
    """Two connections that the listener's side has closed; the first client has closed, too."""
    listener = sockets.listen("127.0.0.1", 15043, backlog=3)
    both, _ = (sockets.connect(f"127.0.0.{number}", number, listener) for number in (9, 10))
    for _ in range(2):
        sockets.accept(listener).close()
    both.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
    both.close()


def many(sockets: Sockets) -> None:
    """So many connections that messages of the same layout fill most of the answer."""
    listener = sockets.listen("127.0.0.1", 15044, backlog=64)
    for number in range(11, 43):
        sockets.connect(f"127.0.0.{number}", number, listener)
        sockets.accept(listener)


def nothing(_sockets: Sockets) -> None:
    """No socket at all."""


_RECORDINGS: Final[tuple[tuple[Callable[[Sockets], None], socket.AddressFamily, int], ...]] = (
    (ipv4, socket.AF_INET, 15040),
    (unread, socket.AF_INET, 15045),
    (ipv6, socket.AF_INET6, 15041),
    (mapped, socket.AF_INET6, 15042),
    (closed, socket.AF_INET, 15043),
    (many, socket.AF_INET, 15044),
    (nothing, socket.AF_INET, 15046),
)


def chunks(family: socket.AddressFamily, port: int) -> list[bytes]:
    """Return what each `recv` of a dump of the sockets on a port gives."""
    found = []
    dump = Dump(family)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.send(dump_request(family, [port]))
        while not dump.done:
            found.append(netlink.recv(1 << 16))
            dump.feed(found[-1])
    return found


def main() -> None:
    """Record them all."""
    for make, family, port in _RECORDINGS:
        with Sockets() as sockets:
            make(sockets)
            time.sleep(0.3)  # what is on its way arrives, and a full connection waits measurably
            recorded = b"".join(struct.pack("<I", len(chunk)) + chunk for chunk in chunks(family, port))
        (_DATA / f"inet-diag-{make.__name__}.bin").write_bytes(recorded)


if __name__ == "__main__":
    main()
