"""What happens to the connections between two snapshots: opened, closed, retransmitted.

A connection is followed by its socket cookie, which the kernel never uses twice, so reused ports are no trouble.
Connections that open and close between two samples are not seen; the kernel's listen counters show such storms.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from salt_exporter.kernel.inet_diag import BYTES_RETRANSMITTED, COOKIE, STATE, TIME_WAIT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from salt_exporter.kernel.inet_diag import Row


@dataclass(slots=True)
class Churn:
    """Counters of one channel, since the exporter started."""

    opened: int = 0
    closed: int = 0
    retransmitted_bytes: int = 0
    _live: dict[int, int] | None = field(default=None)  # cookie → bytes retransmitted so far; None before the first

    def observe(self, connections: Iterable[Row]) -> None:
        """Take the channel's connections of a new snapshot.

        A socket in TIME_WAIT is only the kernel's memory of a connection: it is closed.
        """
        live = {row[COOKIE]: row[BYTES_RETRANSMITTED] for row in connections if row[STATE] != TIME_WAIT}
        before = self._live
        self._live = live
        if before is None:  # those that were there before us did not open now
            return
        if live.keys() != before.keys():
            self.opened += len(live.keys() - before.keys())
            self.closed += len(before.keys() - live.keys())
        # A connection that the master has closed stays a while, with its cookie but without its counters.
        self.retransmitted_bytes += sum([max(0, sent - before.get(cookie, 0)) for cookie, sent in live.items() if sent])
