"""Which of some sockets a process holds, and that it is not asked again what is known."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from salt_exporter.kernel import descriptors as module
from salt_exporter.kernel.descriptors import HeldSockets, number_of_descriptors, sockets_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_STARTED = 1.0
_NOBODYS = 1  # no socket has this inode


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    """Yield three sockets."""
    with ExitStack() as stack:
        yield [stack.enter_context(socket.socket()) for _ in range(3)]


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the id of each process whose links are all read."""
    found: list[int] = []

    def noted(pid: int) -> dict[int, int]:
        found.append(pid)
        return sockets_of(pid)

    monkeypatch.setattr(module, "sockets_of", noted)
    return found


def _inode(one: socket.socket) -> int:
    return os.fstat(one.fileno()).st_ino


def _held(held: HeldSockets, *inodes: int) -> set[int]:
    return set(held.of(os.getpid(), _STARTED, set(inodes)))


@pytest.mark.parametrize("size", [None, 0], ids=["from Linux 6.2 on", "before"])
def test_number(sockets: list[socket.socket], monkeypatch: pytest.MonkeyPatch, size: int | None) -> None:
    """The number of descriptors is that of all that are open, whether or not the kernel tells it as a size."""
    if size is not None:
        monkeypatch.setattr("salt_exporter.kernel.descriptors.os.stat", lambda _: SimpleNamespace(st_size=size))
    before = number_of_descriptors(os.getpid())
    sockets[0].close()
    assert before - 1 == number_of_descriptors(os.getpid())


def test_of_a_process_that_may_not_be_looked_at() -> None:
    """For a process that has ended all is an OSError."""
    nobody = 1 << 30
    with pytest.raises(OSError, match=str(nobody)):
        number_of_descriptors(nobody)
    with pytest.raises(OSError, match=str(nobody)):
        HeldSockets().of(nobody, _STARTED, {_NOBODYS})


def test_held_sockets(sockets: list[socket.socket]) -> None:
    """Of the sockets asked for those that are held are told, no others."""
    first, second, third = map(_inode, sockets)
    assert {first, third} == _held(HeldSockets(), first, third, _NOBODYS)
    assert second not in _held(HeldSockets(), first, third)


def test_known_is_not_searched_for(sockets: list[socket.socket], searched: list[int]) -> None:
    """What was asked before is known, held or not; a socket that is new is searched for."""
    first, second, third = map(_inode, sockets)
    held = HeldSockets()
    _held(held, first, third, _NOBODYS)
    searched.clear()
    assert {first, third} == _held(held, first, third, _NOBODYS)
    assert [] == searched
    assert {first, second} == _held(held, first, second)
    assert [os.getpid()] == searched


def test_closed_is_noticed(sockets: list[socket.socket]) -> None:
    """A socket that is closed, or whose descriptor is another's now, is not held any more."""
    first, second, third = map(_inode, sockets)
    held = HeldSockets()
    assert {first, second, third} == _held(held, first, second, third)
    sockets[0].close()
    os.dup2(sockets[2].fileno(), sockets[1].fileno())
    assert {third} == _held(held, first, second, third)


def test_forgotten_processes(sockets: list[socket.socket], searched: list[int]) -> None:
    """What is known of a process is forgotten with it: one that has its id later is searched."""
    first = _inode(sockets[0])
    held = HeldSockets()
    _held(held, first)
    searched.clear()
    held.forget_others([(os.getpid(), _STARTED)])
    _held(held, first)
    assert [] == searched
    assert {first} == set(held.of(os.getpid(), _STARTED + 60, {first}))
    held.forget_others([])
    _held(held, first)
    assert [os.getpid()] * 2 == searched
