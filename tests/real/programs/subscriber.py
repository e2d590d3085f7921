"""Subscribe as a minion does and print the size of each message: `subscriber.py <port> <source address>`."""

from __future__ import annotations

import sys

import zmq


def main(port: str, source: str) -> None:
    """Receive for ever."""
    with zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
        subscriber.subscribe(b"")
        subscriber.connect(f"tcp://{source}:0;127.0.0.1:{port}")
        while True:
            print(len(subscriber.recv()), flush=True)  # noqa: T201 - that is the answer


if __name__ == "__main__":
    main(*sys.argv[1:])
