"""Minion keys by state."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from salt_exporter.metric import Metric, Sample, gauge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from salt_exporter.world import World

KEYS = gauge(
    "salt_keys",
    "Minion keys by state (accepted, pending, rejected, denied): files below the master's pki_dir.",
    "state",
)


class KeysCollector:
    """Counts the key files."""

    name: ClassVar[str] = "keys"
    metrics: ClassVar[tuple[Metric, ...]] = (KEYS,)

    def __init__(self, world: World) -> None:
        self._world = world

    def collect(self) -> Iterator[Sample]:
        """Yield the samples of now."""
        keys = self._world.keys()
        yield KEYS(len(keys.accepted), state="accepted")
        yield KEYS(len(keys.pending), state="pending")
        yield KEYS(len(keys.rejected), state="rejected")
        yield KEYS(len(keys.denied), state="denied")
