"""Holds TCP connections whose both ends are its own: `pairs.py <which> <connections> <port> <port>`.

Several of these serve the same two ports, each at an address of its own, because one process may not have open as many
files as there are connections. Each client has an address of its own. For each line on standard input all clients of
the first port are sent a message; the answer is its size in bytes.
"""

from __future__ import annotations

import resource
import socket
import struct
import sys

_MESSAGE = bytes(200)
_AT_ONCE = struct.pack("ii", 1, 0)  # struct linger: on, 0 seconds


def main(which: int, connections: int, ports: tuple[int, int]) -> None:
    """Open the connections, half of them to each port, say so, and keep them until standard input ends."""
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    servers = [socket.create_server((f"127.63.{which}.1", port)) for port in ports]
    held = [_pair(servers[number % 2], which, number) for number in range(connections)]
    print(f"{len(held)} connections", flush=True)
    for _line in sys.stdin:
        for client, accepted in held[::2]:
            accepted.sendall(_MESSAGE)
            client.recv(len(_MESSAGE))
        print(len(_MESSAGE), flush=True)


def _pair(server: socket.socket, which: int, number: int) -> tuple[socket.socket, socket.socket]:
    """Connect, and say something both ways, as every real peer has: the kernel then has more to tell."""
    client = socket.create_connection(
        server.getsockname(), source_address=(f"127.{64 + which}.{number >> 8}.{number & 255}", 0)
    )
    accepted, _address = server.accept()
    for sender, receiver in ((client, accepted), (accepted, client)):
        # Closed with a reset, it leaves no TIME_WAIT behind, which the next run would find.
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        sender.sendall(bytes(64))
        receiver.recv(64)
    return client, accepted


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), (int(sys.argv[3]), int(sys.argv[4])))
