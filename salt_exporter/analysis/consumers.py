"""The consumers of the event bus by process name, a bounded number of names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from salt_exporter.master.consumers import Consumer

MAX_NAMES: Final = 20
OTHER: Final = "other"


class ConsumerNames:
    """Keeps the names it saw first and calls the rest `other`: any local program may become a consumer."""

    def __init__(self, max_names: int = MAX_NAMES) -> None:
        self._max_names = max_names
        self._names: set[str] = set()

    def largest(self, consumers: Iterable[Consumer]) -> dict[str, int]:
        """Return the unread bytes of the consumer of each name that is furthest behind."""
        found: dict[str, int] = {}
        # Where names must be left out, the consumers that wait least lose theirs.
        for consumer in sorted(consumers, key=lambda consumer: -consumer.unread_bytes):
            found.setdefault(self._bounded(consumer.process), consumer.unread_bytes)
        return found

    def _bounded(self, name: str) -> str:
        if name not in self._names and len(self._names) >= self._max_names:
            return OTHER
        self._names.add(name)
        return name
