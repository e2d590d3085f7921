"""The processes of a running master: what each uses, and which role it has."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from salt_exporter.errors import SourceError
from salt_exporter.kernel.descriptors import number_of_descriptors
from salt_exporter.master.titles import JOB, MAIN, OTHER, REQUEST_MANAGER, REQUEST_ROUTER, REQUEST_WORKER, role_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from salt_exporter.kernel.descriptors import HeldSockets
    from salt_exporter.master.process import MasterProcess

_START_PRECISION = 1.0  # seconds by which two readings of a process's start may differ


@dataclass(frozen=True, slots=True)
class OpenFiles:
    """What a process has open, and may have."""

    count: int
    limit: float  # RLIMIT_NOFILE, soft; may be infinite
    sockets: frozenset[int]  # inodes of the listening sockets among them


@dataclass(frozen=True, slots=True)
class Process:
    """One process at one moment."""

    pid: int
    parent: int
    started: float  # Unix seconds
    words: tuple[str, ...]  # of its command line
    cpu_seconds: float  # user and system, since it was started
    resident_bytes: int
    files: OpenFiles | None  # None: it may not be looked at


def master_processes(main: MasterProcess, listening: AbstractSet[int], held: HeldSockets) -> list[Process]:
    """Return the master's processes, the oldest and its descendants; zombies are none. Raises SourceError.

    `listening` are the inodes of listening sockets that tell roles, `held` remembers them from call to call.
    """
    try:
        root = psutil.Process(main.pid)
        if abs(root.create_time() - main.started) > _START_PRECISION:
            raise psutil.NoSuchProcess(main.pid)
        family = [root, *root.children(recursive=True)]
    except psutil.Error as error:
        raise SourceError(f"the salt-master with process id {main.pid} has ended: is it restarting?") from error
    found = list(_looked_at(family, listening, held))
    held.forget_others((process.pid, process.started) for process in found)
    return found


def _looked_at(family: Sequence[psutil.Process], listening: AbstractSet[int], held: HeldSockets) -> Iterator[Process]:
    for process in family:
        try:
            with process.oneshot():
                times = process.cpu_times()
                yield Process(
                    pid=process.pid,
                    parent=process.ppid(),
                    started=process.create_time(),
                    words=tuple(process.cmdline()),
                    cpu_seconds=times.user + times.system,
                    resident_bytes=process.memory_info().rss,
                    files=_files(process, listening, held),
                )
        except psutil.Error:  # it has ended meanwhile
            continue


def _files(process: psutil.Process, listening: AbstractSet[int], held: HeldSockets) -> OpenFiles | None:
    try:
        number = number_of_descriptors(process.pid)
        sockets = held.of(process.pid, process.create_time(), listening)
        soft, _hard = process.rlimit(psutil.RLIMIT_NOFILE)
    except (OSError, psutil.AccessDenied):
        return None
    limit = float("inf") if soft == resource.RLIM_INFINITY else float(soft)
    return OpenFiles(number, limit, sockets)


def roles(processes: Sequence[Process], main: int, listening: Mapping[int, str]) -> dict[int, str]:
    """Return the role of each process by its id.

    `main` is the id of the oldest process, `listening` gives the role by the inode of a listening socket. A socket
    decides where one process alone holds it: a title can be anything, and names change when Salt restarts a process.
    Those that several have inherited (4506 with the tcp transport) decide nothing. Next is the title; without titles
    (no `setproctitle`) what is left is told by its place in the tree.
    """
    found = {main: MAIN} | _owners(processes, listening)
    for process in processes:
        found.setdefault(process.pid, role_of(process.words))
    _place_untitled(processes, main, listening, found)
    return found


def _owners(processes: Sequence[Process], listening: Mapping[int, str]) -> dict[int, str]:
    owners = {}
    for inode, role in listening.items():
        holders = _holders(processes, inode)
        if len(holders) == 1:
            owners[holders[0].pid] = role
    return owners


def _holders(processes: Sequence[Process], inode: int) -> list[Process]:
    return [process for process in processes if process.files and inode in process.files.sockets]


def _place_untitled(
    processes: Sequence[Process], main: int, listening: Mapping[int, str], found: dict[int, str]
) -> None:
    """Give roles to those below the parent of router or workers; others are told apart by nothing."""
    if REQUEST_WORKER in found.values():  # then there are titles
        return
    manager = _request_manager(processes, listening, found)
    if manager in (0, main):
        return
    found[manager] = REQUEST_MANAGER
    parents = {process.pid: process.parent for process in processes}
    for pid, parent in parents.items():
        if found[pid] == OTHER and parent == manager:
            found[pid] = REQUEST_WORKER
        elif found[pid] == OTHER and parents.get(parent) == manager:
            found[pid] = JOB


def _request_manager(processes: Sequence[Process], listening: Mapping[int, str], found: Mapping[int, str]) -> int:
    """Return the id of the process that the router and the workers are children of, 0 if it cannot be told."""
    for process in processes:
        if found[process.pid] == REQUEST_ROUTER:
            return process.parent
    for inode, role in listening.items():
        holders = {process.pid: process.parent for process in _holders(processes, inode)}
        if role == REQUEST_ROUTER and len(holders) > 1:
            return next((parent for parent in holders.values() if parent in holders), 0)
    return 0
