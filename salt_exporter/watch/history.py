"""The newest rows, bounded, and which of them are to be seen: those that pass the filter, or had when it was frozen."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from salt_exporter.watch.filters import Filter
from salt_exporter.watch.passed import Passed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from salt_exporter.watch.passed import Row

MOST: Final = 10_000  # rows
MOST_BYTES: Final = 32 << 20  # of event bodies; a frozen list holds on to as many once more


class History:
    """What has passed. Not thread-safe."""

    def __init__(self, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self.shown: deque[Row] = deque()  # what is to be seen, the oldest first
        self.events = 0  # that have passed, kept or not
        self.meanwhile = 0  # of these, since the list was frozen
        self._most = most
        self._most_bytes = most_bytes
        self._passes = Filter()
        self._kept: deque[Row] = deque()
        self._bytes = 0
        self._frozen: list[Row] | None = None

    @property
    def frozen(self) -> bool:
        """Whether the rows to be seen stay as they are."""
        return self._frozen is not None

    def add(self, row: Row) -> None:
        """Take a row that is newer than all others."""
        self._kept.append(row)
        if isinstance(row, Passed):
            self.events += 1
            self.meanwhile += self.frozen
            self._bytes += len(row.body)
        while len(self._kept) > self._most or self._bytes > self._most_bytes:
            oldest = self._kept.popleft()
            self._bytes -= len(oldest.body) if isinstance(oldest, Passed) else 0
        if not self.frozen:
            if self._passes(row):
                self.shown.append(row)
            first = self._kept[0].number if self._kept else row.number + 1
            while self.shown and self.shown[0].number < first:
                self.shown.popleft()

    def filter_by(self, passes: Filter) -> None:
        """See only what passes."""
        self._passes = passes
        self._choose()

    def freeze(self) -> None:
        """Let the rows to be seen stay as they are; what comes is counted and kept."""
        self._frozen = list(self._kept)
        self.meanwhile = 0

    def thaw(self) -> None:
        """See the newest rows again."""
        self._frozen = None
        self._choose()

    def _choose(self) -> None:
        rows: Iterable[Row] = self._kept if self._frozen is None else self._frozen
        self.shown = deque(row for row in rows if self._passes(row))
