"""Open many connections at once and hold them: `storm.py <port> <number> <seconds>`."""

from __future__ import annotations

import socket
import sys
import time
from contextlib import suppress

if __name__ == "__main__":
    port, number, seconds = map(int, sys.argv[1:])
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.settimeout(0)
        with suppress(BlockingIOError):
            one.connect(("127.0.0.1", port))
    time.sleep(seconds)
