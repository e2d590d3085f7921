"""Hand jobs to the master's publisher as its workers do, faster than `salt` can: needs nothing of Salt's.

pusher.py <sock_dir of the master> <publish port> <how far ahead> <number of jobs> <seconds between jobs> <size>...

Request, authorization and job cache are left out; encryption, signature, PUB socket and queues are the master's. The
target is a minion that does not run. It subscribes, too, and is never further ahead of what it gets itself: where
processors are scarce the publisher's own two threads would run apart, and the master would drop for everybody alike.
"""

from __future__ import annotations

import random
import sys
import time
from typing import TYPE_CHECKING, Any

import msgpack
import zmq

if TYPE_CHECKING:
    from collections.abc import Iterator

_SOURCE = "127.7.3.1"
_PATIENCE = 20_000  # milliseconds


def main(sock_dir: str, port: int, ahead: int, sizes: Iterator[int], interval: float) -> int:
    """Publish jobs of these sizes; return their number when all of them have come out."""
    with zmq.Context() as context, context.socket(zmq.PUSH) as publisher, context.socket(zmq.SUB) as subscriber:
        _subscribe(subscriber, port)
        publisher.connect(f"ipc://{sock_dir}/publish_pull.ipc")
        pushed = seen = 0
        for size in sizes:
            publisher.send(msgpack.packb(_load(pushed, size)))
            pushed += 1
            seen += _receive(subscriber, pushed - seen - ahead)
            time.sleep(interval)
        _receive(subscriber, pushed - seen)
    return pushed


def _receive(subscriber: zmq.Socket[bytes], least: int) -> int:
    """Receive what has come, wait for so many messages if need be; return how many there were."""
    received = 0
    while subscriber.poll(_PATIENCE if received < least else 0):
        subscriber.recv(copy=False)
        received += 1
    if received < least:
        raise TimeoutError(f"{least - received} messages have not come out")
    return received


def _subscribe(subscriber: zmq.Socket[bytes], port: int) -> None:
    """Return when the publisher has got the subscription."""
    monitor: zmq.Socket[Any] = subscriber.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
    subscriber.subscribe(b"")
    subscriber.connect(f"tcp://{_SOURCE}:0;127.0.0.1:{port}")
    monitor.recv_multipart()
    subscriber.disable_monitor()
    time.sleep(0.5)


def _sizes(number: int, among: list[int]) -> Iterator[int]:
    order = random.Random(5)  # noqa: S311 - the same sizes in each run
    return (order.choice(among) for _ in range(number))


def _load(jid: int, size: int) -> dict[str, object]:
    """Return what `ClearFuncs._prep_pub` makes of a job (salt/master.py, all lines)."""
    job = {"fun": "test.arg", "arg": ["x" * size], "ret": "", "user": "root"}
    return {**job, "tgt": "ghost", "tgt_type": "list", "jid": f"{jid:020}"}


if __name__ == "__main__":
    _, run, port, ahead, number, interval, *sizes = sys.argv
    published = main(run, int(port), int(ahead), _sizes(int(number), [int(size) for size in sizes]), float(interval))
    print(f"published {published}", flush=True)  # noqa: T201 - that is the answer
