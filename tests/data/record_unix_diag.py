"""Record what this machine's kernel answers about a few unix sockets of our own.

    unshare --net python tests/data/record_unix_diag.py

writes tests/data/unix-diag.bin: what each `recv` of one dump returned, its length in 4 bytes (little-endian) before it.
In a network namespace of its own there are no other sockets; they are bound in a folder of their own to relative paths.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import tempfile
from pathlib import Path
from typing import Final

from salt_exporter.kernel.unix_diag import UnixDump, unix_request

_DATA: Final = Path(__file__).parent.resolve()
_NETLINK_SOCK_DIAG: Final = 4


def open_sockets(stack: contextlib.ExitStack) -> None:
    """Open the sockets that tests/unit/test_unix_diag.py knows."""
    listener = stack.enter_context(socket.socket(socket.AF_UNIX))
    listener.bind("bus.ipc")
    listener.listen(5)
    clients = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(5)]
    for client in clients:
        client.connect("bus.ipc")
    accepted = [stack.enter_context(listener.accept()[0]) for _ in range(4)]  # the fifth client waits
    accepted[0].send(bytes(3000))  # not read by the client
    clients[1].send(bytes(70))  # not read by the listener's side
    clients[3].close()
    hidden = stack.enter_context(socket.socket(socket.AF_UNIX))
    hidden.bind("\0hidden")
    hidden.listen(1)
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        for end in socket.socketpair(socket.AF_UNIX, kind):
            stack.enter_context(end)


def chunks() -> list[bytes]:
    """Return what each `recv` of a dump gives."""
    found = []
    dump = UnixDump()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.send(unix_request())
        while not dump.done:
            found.append(netlink.recv(1 << 16))
            dump.feed(found[-1])
    return found


def main() -> None:
    """Record them."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        os.chdir(folder)
        open_sockets(stack)
        recorded = b"".join(struct.pack("<I", len(chunk)) + chunk for chunk in chunks())
    (_DATA / "unix-diag.bin").write_bytes(recorded)


if __name__ == "__main__":
    main()
