"""Which accepted minions are there to receive a job, and which are not."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from salt_exporter.analysis.presence import NOT_PRESENT
from salt_exporter.metric import Metric, Sample, gauge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from salt_exporter.world import World

MINIONS = gauge(
    "salt_presence_minions",
    "Accepted minions that are present, not_present or uncertain, decided from established connections to the publish "
    "port, cached grains and the last sign of life on the event bus; the three add up to the accepted keys.",
    "state",
)
MINION_NOT_PRESENT = gauge(
    "salt_presence_minion_not_present",
    "1 for each accepted minion that is not present, in order of the ids and up to presence.max-series; with "
    "presence.all-minions 0 for each other accepted minion, and no bound.",
    "minion",
)
ALL_MINIONS = gauge(
    "salt_presence_all_minions",
    "1 if every accepted minion has a series of salt_presence_minion_not_present (presence.all-minions), so that one "
    "without has no accepted key here; 0 if only absent minions have one.",
)
SERIES_OMITTED = gauge(
    "salt_presence_not_present_series_omitted",
    "Minions that are not present but beyond presence.max-series, so without a series of their own.",
)
LAST_SEEN = gauge(
    "salt_presence_minion_last_seen_timestamp_seconds",
    "Unix time of a minion's last sign of life on the event bus since the exporter started; of minions that are not "
    "present, or of all with presence.last-seen-all.",
    "minion",
)
UNKNOWN_PEERS = gauge(
    "salt_presence_unknown_peers",
    "Addresses with an established connection to the publish port that match no accepted minion's cached grains.",
)
SHARED = gauge(
    "salt_presence_shared_address_minions",
    "Accepted minions that no address of their own tells apart: their connected address is claimed by another minion "
    "too, or they seem to sit behind an address that nobody claims (NAT).",
)


class PresenceCollector:
    """Asks for everybody's presence."""

    name: ClassVar[str] = "presence"
    metrics: ClassVar[tuple[Metric, ...]] = (
        MINIONS,
        MINION_NOT_PRESENT,
        ALL_MINIONS,
        SERIES_OMITTED,
        LAST_SEEN,
        UNKNOWN_PEERS,
        SHARED,
    )

    def __init__(self, world: World) -> None:
        self._world = world

    def collect(self) -> Iterator[Sample]:
        """Yield the samples of now."""
        presence = self._world.presence()
        config = self._world.config
        for state, number in presence.counts().items():
            yield MINIONS(number, state=state)
        absent = presence.minions(NOT_PRESENT)
        shown = absent if config.presence_all_minions else absent[: config.presence_max_series]
        for minion in sorted(presence.verdicts) if config.presence_all_minions else shown:
            yield MINION_NOT_PRESENT(presence.verdicts[minion].state == NOT_PRESENT, minion=minion)
        yield ALL_MINIONS(config.presence_all_minions)
        yield SERIES_OMITTED(len(absent) - len(shown))
        for minion in sorted(presence.verdicts) if config.presence_last_seen_all else shown:
            seen = presence.verdicts[minion].last_seen
            if seen is not None:
                yield LAST_SEEN(seen, minion=minion)
        yield UNKNOWN_PEERS(presence.unknown_peers)
        yield SHARED(presence.shared_address_minions)
