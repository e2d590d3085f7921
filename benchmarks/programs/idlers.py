"""Holds idle connections whose both ends are its own: `idlers.py <host> <port>`, source addresses on standard input.

For minions beyond what one publisher can serve here. The addresses stand in one line, separated by spaces; it is
answered when all are connected. To the kernel each connection looks like a subscriber's to whom nothing is published:
it has said as much as a subscription, and says a byte at least every heartbeat.
"""

from __future__ import annotations

import resource
import select
import socket
import struct
import sys

_SUBSCRIPTION = bytes(128)  # greeting, READY and SUBSCRIBE of ZMTP 3.1
_HEARTBEAT = 10.0  # seconds, Salt's
_STEP = 0.1
_AT_ONCE = struct.pack("ii", 1, 0)  # struct linger: on, 0 seconds: no TIME_WAIT is left behind


def main(host: str, port: int) -> None:
    """Connect from every address, say so, and stay until standard input ends."""
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    server = socket.create_server((host, port))
    accepted = []
    clients = []
    for address in sys.stdin.readline().split():
        clients.append(socket.create_connection((host, port), source_address=(address, 0)))
        clients[-1].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        clients[-1].sendall(_SUBSCRIPTION)
        accepted.append(server.accept()[0])
        accepted[-1].recv(len(_SUBSCRIPTION))
    print(f"{len(clients)} connections", flush=True)
    share = round(_HEARTBEAT / _STEP)
    turn = 0
    while not select.select([sys.stdin], [], [], _STEP)[0]:
        for client in clients[turn % share :: share]:
            client.send(b".")
        turn += 1


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
