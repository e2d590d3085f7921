"""Missing responses of the last hour by cause: what the daemon's journal knows of them, or what this view has seen."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

HOUR: Final = 3600.0
_STEP: Final = 60.0  # seconds between the totals that are remembered


class Recent(NamedTuple):
    """So many responses missing, by cause, since then."""

    since: float  # Unix seconds; an hour ago, or later
    counts: Mapping[str, int]


class LastHour:
    """Totals that only grow, turned into what they have grown by within an hour."""

    def __init__(self, began: float) -> None:
        """Begin at `began`, Unix seconds, when all totals are 0."""
        self._totals: deque[tuple[float, Counter[str]]] = deque([(began, Counter())])

    def grown(self, totals: Mapping[str, int], now: float) -> Recent:
        """Return by how much the totals have grown in the hour before `now`, or since the beginning."""
        while len(self._totals) > 1 and self._totals[1][0] <= now - HOUR:
            self._totals.popleft()
        since, before = self._totals[0]
        if now - self._totals[-1][0] >= _STEP:
            self._totals.append((now, Counter(totals)))
        return Recent(max(since, now - HOUR), Counter(totals) - before)


def better(own: Recent, journal: Recent | None) -> Recent:
    """Return the account of whoever has seen more: a daemon that runs has, one that ran once has not."""
    return journal if journal and sum(journal.counts.values()) >= sum(own.counts.values()) else own
