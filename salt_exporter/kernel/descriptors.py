"""Open file descriptors of processes, from /proc/<pid>/fd: whose socket is it, how many are open.

A process may look at those of its own user that have not changed their user since they were started, root at all
(ptrace(2), "access mode checks").
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import psutil

from salt_exporter.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from collections.abc import Set as AbstractSet

_SOCKET: Final = re.compile(r"socket:\[(\d+)\]")


def sockets_of(pid: int) -> dict[int, int]:
    """Return the descriptors of a process's sockets by inode. Raises OSError: it has ended, or may not be looked at."""
    return dict(_sockets(pid))


def _sockets(pid: int) -> Iterator[tuple[int, int]]:
    """Yield (inode, descriptor) one by one: a process may have tens of thousands. Raises OSError as `sockets_of`."""
    with os.scandir(f"/proc/{pid}/fd") as entries:
        for entry in entries:
            inode = _socket(entry.path)
            if inode is not None:
                yield inode, int(entry.name)


def number_of_descriptors(pid: int) -> int:
    """Return how many descriptors a process has open. Raises OSError as `sockets_of`.

    Linux tells from 6.2 on, as the size of the folder (fs/proc/fd.c, proc_fd_getattr); to list thousands takes long.
    """
    folder = f"/proc/{pid}/fd"
    return os.stat(folder).st_size or len(os.listdir(folder))  # noqa: PTH116, PTH208 - as above


def _socket(descriptor: str) -> int | None:
    try:
        match = _SOCKET.fullmatch(os.readlink(descriptor))  # noqa: PTH115 - as above
    except OSError:  # closed meanwhile
        return None
    return int(match[1]) if match else None


class HeldSockets:
    """Tells which of some sockets a process holds, and remembers it: thousands of links take many milliseconds to read.

    What a process does not hold when it is seen first it does not get later: sockets of its own making are new.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, float], dict[int, int | None]] = {}  # inode → descriptor, None: not held

    def of(self, pid: int, started: float, inodes: AbstractSet[int]) -> frozenset[int]:
        """Return those of the inodes that a process started then holds. Raises OSError as `sockets_of`."""
        known = self._known.get((pid, started), {})
        known = {inode: known[inode] for inode in inodes if inode in known and _still_holds(pid, known[inode], inode)}
        missing = inodes - known.keys()
        if missing:
            sockets = sockets_of(pid)
            known |= {inode: sockets.get(inode) for inode in missing}
        self._known[pid, started] = known
        return frozenset(inode for inode, descriptor in known.items() if descriptor is not None)

    def forget_others(self, processes: Iterable[tuple[int, float]]) -> None:
        """Remember only these processes, told by id and start."""
        self._known = {process: self._known[process] for process in processes if process in self._known}


def _still_holds(pid: int, descriptor: int | None, inode: int) -> bool:
    return descriptor is None or _socket(f"/proc/{pid}/fd/{descriptor}") == inode


class SocketOwners:
    """Finds the processes that hold sockets, and remembers them: a search looks at all processes."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, int] | None] = {}  # inode → (pid, descriptor), None: nobody we may look at

    def find(self, inodes: Collection[int]) -> dict[int, int]:
        """Return the process id of a holder by inode, without those of which no holder may be looked at.

        Raises SourceError.
        """
        self._known = {inode: owner for inode, owner in self._known.items() if inode in inodes and self._holds(inode)}
        missing = set(inodes) - self._known.keys()
        if missing:
            self._search(missing)
        return {inode: owner[0] for inode, owner in self._known.items() if owner}

    def _holds(self, inode: int) -> bool:
        owner = self._known[inode]
        return owner is None or _still_holds(*owner, inode)

    def _search(self, missing: set[int]) -> None:
        owners: dict[int, tuple[int, int] | None] = dict.fromkeys(missing)
        try:
            for pid in reversed(psutil.pids()):  # sockets that are new to us mostly belong to young processes
                if not missing:
                    break
                with suppress(FileNotFoundError, ProcessLookupError, PermissionError):  # ended, or not ours to look at
                    found = {inode: descriptor for inode, descriptor in _sockets(pid) if inode in missing}
                    owners |= {inode: (pid, descriptor) for inode, descriptor in found.items()}
                    missing = missing - found.keys()
        except OSError as error:  # out of file descriptors: nothing is known of nobody
            raise SourceError(f"cannot look at the sockets of processes ({error.strerror})") from error
        self._known |= owners
