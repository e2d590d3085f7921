"""TCP sockets in the network namespace of a process, which may be another than ours (psutil knows ours only).

From /proc/<pid>/net/tcp and tcp6 (kernel, Documentation/networking/proc_net_tcp.rst).
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

# include/net/tcp_states.h
_ESTABLISHED = 1
_LISTEN = 10


class _Socket(NamedTuple):
    local_port: int
    remote_port: int
    state: int
    inode: str


def listening_ports(pid: int) -> set[int]:
    """Return the ports somebody listens on in the network namespace of a process; none if it has ended."""
    return {socket.local_port for socket in _sockets(pid) if socket.state == _LISTEN}


def is_connected(pid: int, remote_port: int) -> bool:
    """Tell whether a process itself has an established connection to a port."""
    inodes = _own_inodes(pid)
    return any(
        socket.state == _ESTABLISHED and socket.remote_port == remote_port and socket.inode in inodes
        for socket in _sockets(pid)
    )


def _sockets(pid: int) -> Iterator[_Socket]:
    """Yield the TCP sockets of the network namespace; columns: sl local remote state … (9th) inode."""
    for file in (f"/proc/{pid}/net/tcp", f"/proc/{pid}/net/tcp6"):
        with suppress(OSError):
            for line in Path(file).read_text().splitlines()[1:]:
                columns = line.split()
                yield _Socket(_port(columns[1]), _port(columns[2]), int(columns[3], 16), columns[9])


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)


def _own_inodes(pid: int) -> set[str]:
    inodes = set()
    with suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                inodes.add(str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]"))
    return inodes
