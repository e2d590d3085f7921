"""Connect as many clients at once, from many addresses of the loopback, and close them: a program for any Python.

reconnect_storm.py <port> <number> <seconds to hold them>; says "connected <number>" when all are.
"""

from __future__ import annotations

import resource
import select
import socket
import sys
import time

_PER_ADDRESS = 5000


def main(port: int, number: int, seconds: float) -> None:
    """Connect all, hold them, and let go of them at once."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, number + 100), hard))
    sockets = []
    poll = select.epoll()
    for count in range(number):
        client = socket.socket()
        client.settimeout(0)
        client.bind((f"127.9.0.{count // _PER_ADDRESS + 1}", 0))
        client.connect_ex(("127.0.0.1", port))
        poll.register(client, select.EPOLLOUT | select.EPOLLONESHOT)
        sockets.append(client)
    connected = 0
    while connected < number:
        connected += len(poll.poll())
    print(f"connected {connected}", flush=True)  # noqa: T201 - that is the answer
    time.sleep(seconds)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
