"""Established connections to two ports, held by other processes."""

from __future__ import annotations

import sys
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Final

from benchmarks.processes import Child

if TYPE_CHECKING:
    from collections.abc import Iterator

PORTS: Final = (14910, 14911)
_PAIRS: Final = 4000  # connections held by one process, at two open files each


class Connections:
    """What can be done with them."""

    def __init__(self, holders: list[Child]) -> None:
        self._holders = holders

    def publish(self) -> int:
        """Send the same to every client of the first port; return when all have it, and how many bytes it was."""
        return {int(holder.ask()) for holder in self._holders}.pop()


@contextmanager
def connections(number: int) -> Iterator[Connections]:
    """Hold so many established connections, from addresses of their own, half of them to each of PORTS."""
    with ExitStack() as stack:
        shares = [min(_PAIRS, number - start) for start in range(0, number, _PAIRS)]
        holders = [
            stack.enter_context(closing(Child(sys.executable, "pairs", which, share, *PORTS)))
            for which, share in enumerate(shares)
        ]
        for holder in holders:
            holder.wait_ready()
        yield Connections(holders)
