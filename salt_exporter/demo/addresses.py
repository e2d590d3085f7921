"""Free TCP addresses for what the demo starts."""

from __future__ import annotations

import random
import socket


def free_salt_ports() -> tuple[int, int]:
    """Return two neighbouring free ports of 127.0.0.1 that remind of 4505 and 4506.

    They lie below the ephemeral ports (ip(7), ip_local_port_range), so no outgoing connection takes them.
    """
    while True:
        publish_port = random.randrange(14505, 32000, 100)  # noqa: S311 - so that two demos rarely try the same
        if _is_free("127.0.0.1", publish_port) and _is_free("127.0.0.1", publish_port + 1):
            return publish_port, publish_port + 1


def free_listen_address(wanted: str) -> tuple[str, int]:
    """Return host and port of `host:port` if that is free, else of a free port. Raises OSError, ValueError."""
    host, _, port = wanted.rpartition(":")
    host = host.strip("[]")
    if _is_free(host, int(port)):
        return host, int(port)
    with _listening(host, 0) as server:
        return host, server.getsockname()[1]


def _is_free(host: str, port: int) -> bool:
    try:
        _listening(host, port).close()
    except OSError:
        return False
    return True


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)
