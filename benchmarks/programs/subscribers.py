"""Subscribes to publishers as minions do: `subscribers.py <host> <port>`, source addresses on standard input.

The addresses stand in one line, separated by spaces; it is answered when all are connected. libzmq shakes hands and
answers heartbeats, so the publisher keeps the connections.
"""

from __future__ import annotations

import resource
import sys

import zmq

_AT_ONCE = 500  # connections under way: more than fit into the publisher's accept queue take seconds to try again


def main(host: str, port: int) -> None:
    """Connect from every address, say so, and stay until standard input ends."""
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    with zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
        subscriber.linger = 0
        subscriber.subscribe(b"")
        monitor = subscriber.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        addresses = sys.stdin.readline().split()
        for start in range(0, len(addresses), _AT_ONCE):
            some = addresses[start : start + _AT_ONCE]
            for address in some:
                subscriber.connect(f"tcp://{address}:0;{host}:{port}")
            for _ in some:
                monitor.recv_multipart()
        print(f"{len(addresses)} subscribers", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
