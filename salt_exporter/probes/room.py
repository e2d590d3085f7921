"""Whether libzmq may connect: where it runs out of file descriptors it ends the process that it is part of.

It looks up network interfaces for each source address, at each attempt, and aborts where that fails, be it for want of
a descriptor or because AF_NETLINK is refused (libzmq 4.3.5, src/ip_resolver.cpp, `resolve_nic_name`; src/epoll.cpp).
Told never to reconnect it looks once more when a connection ends (src/socket_base.cpp, `term_endpoint`).
"""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import Final

# Milliseconds until libzmq connects again, long after we have.
LATER: Final = 3_600_000
# A context with its threads takes about ten.
_DESCRIPTORS: Final = 16


def require_room() -> None:
    """Raise OSError unless libzmq can have what it needs, now; it must not be left to reconnect by itself."""
    with ExitStack() as stack:
        for _ in range(_DESCRIPTORS):
            stack.enter_context(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC))
