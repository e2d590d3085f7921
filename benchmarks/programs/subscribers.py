"""Subscribes to a master's publisher as minions do: `subscribers.py <port>`, source addresses on standard input.

The addresses stand in the first line, separated by spaces. libzmq shakes hands and answers the master's heartbeats, so
the publisher keeps the connections.
"""

from __future__ import annotations

import resource
import sys

import zmq


def main(port: int) -> None:
    """Connect from every address, say so, and stay until standard input ends."""
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    with zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
        subscriber.linger = 0
        subscriber.subscribe(b"")
        addresses = sys.stdin.readline().split()
        for address in addresses:
            subscriber.connect(f"tcp://{address}:0;127.0.0.1:{port}")
        print(f"{len(addresses)} subscribers", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(int(sys.argv[1]))
