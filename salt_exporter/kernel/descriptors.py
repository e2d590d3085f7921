"""Open file descriptors of processes, from /proc/<pid>/fd: whose socket is it, how many are open.

A process may look at those of its own user that have not changed their user since they were started, root at all
(ptrace(2), "access mode checks").
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import psutil

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_SOCKET: Final = re.compile(r"socket:\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Descriptors:
    """What one process has open."""

    count: int
    sockets: Mapping[int, int]  # inode → descriptor


def descriptors(pid: int) -> Descriptors:
    """Return what a process has open. Raises OSError: it has ended, or may not be looked at."""
    names = os.listdir(f"/proc/{pid}/fd")  # noqa: PTH208 - there are many: Path takes three times as long
    sockets = {}
    for name in names:
        inode = _socket(f"/proc/{pid}/fd/{name}")
        if inode is not None:
            sockets[inode] = int(name)
    return Descriptors(len(names), sockets)


def _socket(descriptor: str) -> int | None:
    try:
        match = _SOCKET.fullmatch(os.readlink(descriptor))  # noqa: PTH115 - as above
    except OSError:  # closed meanwhile
        return None
    return int(match[1]) if match else None


class SocketOwners:
    """Finds the processes that hold sockets, and remembers them: a search looks at all processes."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, int] | None] = {}  # inode → (pid, descriptor), None: nobody we may look at

    def find(self, inodes: Collection[int]) -> dict[int, int]:
        """Return the process id of a holder by inode, without those of which no holder may be looked at."""
        self._known = {inode: owner for inode, owner in self._known.items() if inode in inodes and self._holds(inode)}
        missing = set(inodes) - self._known.keys()
        if missing:
            self._search(missing)
        return {inode: owner[0] for inode, owner in self._known.items() if owner}

    def _holds(self, inode: int) -> bool:
        owner = self._known[inode]
        return owner is None or _socket(f"/proc/{owner[0]}/fd/{owner[1]}") == inode

    def _search(self, missing: set[int]) -> None:
        self._known |= dict.fromkeys(missing)
        for pid in reversed(psutil.pids()):  # sockets that are new to us mostly belong to young processes
            if not missing:
                break
            try:
                sockets = descriptors(pid).sockets
            except OSError:
                continue
            for inode in missing & sockets.keys():
                self._known[inode] = pid, sockets[inode]
            missing = missing - sockets.keys()
