"""Whose responses a job waits for, has got, or was closed without: sorted minion ids, and one number for each.

A dict of 20,000 ids takes 0.4 MB, one of those that have returned as much again, and a hundred such jobs may be in
flight. Here jobs for the same minions share the ids, and each takes 4 bytes for one.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from enum import IntEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


class State(IntEnum):
    """What has become of a response."""

    OUTSTANDING = 0
    MISSED = 1  # the job was closed without it
    RETURNED = 2
    UNEXPECTED = 3  # nobody named the minion


_STATE: Final = 0b11  # of a mark; the bits above are the number of the stamp


class Responses:
    """The responses to one job. Not thread-safe."""

    __slots__ = ("_ids", "_marks", "_others", "_stamps", "missed", "outstanding", "returned")

    def __init__(self) -> None:
        self.outstanding = self.missed = self.returned = 0  # how many there are
        self._ids: tuple[str, ...] = ()  # sorted
        self._marks = array("I")  # of each id: its state, and which stamp is its own
        self._stamps: list[float | None] = []
        self._others: dict[str, None] = {}  # who has returned without having been named

    def __len__(self) -> int:
        """How many minion ids are held."""
        return len(self._ids) + len(self._others)

    def unknown(self, minions: Iterable[str]) -> set[str]:
        """Return those of `minions` that neither were named nor have returned."""
        return set(minions).difference(self._ids, self._others)

    def expect(self, minions: Collection[str], stamp: float | None) -> None:
        """Wait for minions, all of them unknown, that were named at `stamp` (Unix seconds)."""
        mark = len(self._stamps) << _STATE.bit_length() | State.OUTSTANDING
        self._stamps.append(stamp)
        self.outstanding += len(minions)
        if self._ids:
            marks = dict(zip(self._ids, self._marks, strict=True)) | dict.fromkeys(minions, mark)
            self._ids = tuple(sorted(marks))
            self._marks = array("I", map(marks.__getitem__, self._ids))
        else:
            self._ids = tuple(sorted(minions))
            self._marks = array("I", [mark]) * len(self._ids)

    def share(self, ids: tuple[str, ...]) -> tuple[str, ...]:
        """Hold these ids in the place of our own, if they are the same; return those that are held."""
        if self._ids == ids:
            self._ids = ids
        return self._ids

    def take(self, minion: str) -> tuple[State, float | None]:
        """Take a minion's return; return what had become of it before, and when the minion was named."""
        index = self._index(minion)
        if index is None:
            if minion in self._others:
                return State.RETURNED, None
            self._others[minion] = None
            self.returned += 1
            return State.UNEXPECTED, None
        mark = self._marks[index]
        before = State(mark & _STATE)
        if before is not State.RETURNED:
            self._marks[index] = mark & ~_STATE | State.RETURNED
            self.returned += 1
            if before is State.OUTSTANDING:
                self.outstanding -= 1
            else:
                self.missed -= 1
        return before, self._stamps[mark >> _STATE.bit_length()]

    def awaits(self, minion: str) -> bool:
        """Tell whether a minion's response is outstanding."""
        index = self._index(minion)
        return index is not None and self._marks[index] & _STATE == State.OUTSTANDING

    def awaited(self) -> list[str]:
        """Return the minions whose responses are outstanding."""
        if not self.outstanding:
            return []
        return [minion for minion, mark in zip(self._ids, self._marks, strict=True) if not mark & _STATE]

    def has(self, minion: str) -> bool:
        """Tell whether a minion has returned."""
        index = self._index(minion)
        return minion in self._others if index is None else self._marks[index] & _STATE == State.RETURNED

    def give_up(self) -> None:
        """Wait no longer: what is outstanding is missed."""
        if self.outstanding:
            self._marks = array("I", (mark if mark & _STATE else mark | State.MISSED for mark in self._marks))
            self.missed += self.outstanding
            self.outstanding = 0

    def _index(self, minion: str) -> int | None:
        index = bisect_left(self._ids, minion)
        return index if index < len(self._ids) and self._ids[index] == minion else None
