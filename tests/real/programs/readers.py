"""Subscribe many times, read most at once and some at a limited pace.

readers.py <port> <number of fast ones> <share of what comes that a slow one reads>...

Every half second it prints, as JSON, how many messages all the fast ones have received together, and each slow one.
When nothing has come for a second the slow ones read what waits for them, at a limited pace still.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import zmq

_REPORT = 0.5  # seconds
_IDLE = 1.0  # seconds
_PATIENCE = 5  # milliseconds to wait for a message
_AT_ONCE = 1000  # messages read before anything else is looked after
_SMALL = 1 << 15  # bytes


def main(port: int, fast: int, shares: list[float]) -> None:
    """Receive for ever."""
    with zmq.Context() as context:
        crowd = _subscriber(context, port, [f"127.7.1.{number}" for number in range(1, fast + 1)], hwm=0)
        # What they do not read waits in the master's kernel and in the master, hardly any of it here.
        slow = [_subscriber(context, port, [f"127.7.2.{number}"], hwm=1) for number in range(1, len(shares) + 1)]
        received, read, turns = 0, [0] * len(slow), [0] * len(slow)
        busy = reported = time.monotonic()
        while True:
            crowd.poll(_PATIENCE)
            came = _read(crowd, _AT_ONCE)
            received += came
            now = time.monotonic()
            busy = now if came else busy
            for number, subscriber in enumerate(slow):
                due = int(received / fast * shares[number]) - turns[number]
                turns[number] += due
                read[number] += _read(subscriber, due + (now - busy > _IDLE))
            if now - reported > _REPORT:
                reported = now
                print(json.dumps([received, read]), flush=True)  # noqa: T201 - that is the answer


def _subscriber(context: zmq.Context[Any], port: int, sources: list[str], hwm: int) -> zmq.Socket[bytes]:
    """Return a socket with a connection from each address, which holds so many messages of each, 0 for any number."""
    subscriber: zmq.Socket[bytes] = context.socket(zmq.SUB)
    subscriber.rcvhwm = hwm
    if hwm:
        subscriber.rcvbuf = _SMALL
    subscriber.subscribe(b"")
    for source in sources:
        subscriber.connect(f"tcp://{source}:0;127.0.0.1:{port}")
    return subscriber


def _read(subscriber: zmq.Socket[bytes], most: int) -> int:
    """Read so many messages, fewer if there are no more now; return their number."""
    for number in range(most):
        try:
            subscriber.recv(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return number
    return most


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), [float(share) for share in sys.argv[3:]])
