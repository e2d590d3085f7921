"""The exporter about itself: what it is, how it is, what it could not see."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, ClassVar

from salt_exporter import __version__
from salt_exporter.analysis.presence import NOT_PRESENT
from salt_exporter.log import LEVELS, counted
from salt_exporter.metric import Metric, Sample, counter, gauge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from salt_exporter.world import World

BUILD_INFO = gauge(
    "salt_exporter_build_info", "1; the labels tell which exporter runs on which Python.", "version", "python_version"
)
# These two are reported by salt_exporter/scrape.py for every collector, this one included.
COLLECTOR_SUCCESS = gauge(
    "salt_exporter_collector_success", "1 when a collector answered whole and in time at this scrape.", "collector"
)
COLLECTOR_DURATION = gauge(
    "salt_exporter_collector_duration_seconds", "How long a collector took at this scrape.", "collector"
)
CONNECTED = gauge("salt_exporter_eventbus_connected", "1 while the exporter is connected to the master's event bus.")
RECONNECTS = counter(
    "salt_exporter_eventbus_reconnects_total",
    "Connections to the master's event bus after the first; events in between may have been missed.",
)
DECODE_ERRORS = counter(
    "salt_exporter_eventbus_decode_errors_total",
    "What came over the event bus and was no event: stretches of bytes that were no frame, bodies that made no sense.",
)
SHED = counter(
    "salt_exporter_events_shed_total",
    "Events thrown away undecoded because the exporter fell behind; the master was never held up.",
)
GRAINS_ERRORS = counter(
    "salt_exporter_grains_cache_errors_total",
    "Files of the master's grains cache that could not be read or made no sense.",
)
LOG_MESSAGES = counter("salt_exporter_log_messages_total", "Messages logged since the exporter started.", "level")
SERIES_OMITTED = gauge(
    "salt_exporter_series_omitted", "Series left out of a metric to keep its number bounded.", "metric"
)
SAMPLE_AGE = gauge(
    "salt_exporter_sample_age_seconds",
    "Age of what the exporter knows from a source: sockets (the kernel's socket table), refresh (keys, cached grains "
    "and configuration of the master).",
    "source",
)
JOURNAL_PERSISTENT = gauge(
    "salt_exporter_journal_persistent",
    "1 when the loss journal outlives a restart: it goes to a file below --state.directory, and was last written well.",
)
JOURNAL_LOSSES = gauge("salt_exporter_journal_losses", "Missing responses that the loss journal holds.")
JOURNAL_ERRORS = counter(
    "salt_exporter_journal_errors_total", "Attempts to write the loss journal that failed, and notes that were dropped."
)
RELOAD_SUCCESSFUL = gauge(
    "salt_exporter_config_last_reload_successful", "1 when the last reload of the exporter's configuration succeeded."
)
RELOAD_TIME = gauge(
    "salt_exporter_config_last_reload_success_timestamp_seconds",
    "Unix time of the exporter's start or of its last successful reload.",
)
WEB_RELOAD_SUCCESSFUL = gauge(
    "salt_exporter_web_config_reload_successful",
    "1 unless the web configuration file (web.config.file) as it is now cannot be used: then the last good one is kept "
    "in force.",
)
WEB_RELOAD_TIME = gauge(
    "salt_exporter_web_config_reload_success_timestamp_seconds",
    "Unix time of the exporter's start or of the last successful reload of the web configuration file.",
)


class ExporterCollector:
    """Reports the exporter's own counters."""

    name: ClassVar[str] = "exporter"
    metrics: ClassVar[tuple[Metric, ...]] = (
        BUILD_INFO,
        COLLECTOR_SUCCESS,
        COLLECTOR_DURATION,
        CONNECTED,
        RECONNECTS,
        DECODE_ERRORS,
        SHED,
        GRAINS_ERRORS,
        LOG_MESSAGES,
        SERIES_OMITTED,
        SAMPLE_AGE,
        JOURNAL_PERSISTENT,
        JOURNAL_LOSSES,
        JOURNAL_ERRORS,
        RELOAD_SUCCESSFUL,
        RELOAD_TIME,
        WEB_RELOAD_SUCCESSFUL,
        WEB_RELOAD_TIME,
    )

    def __init__(self, world: World) -> None:
        self._world = world

    def collect(self) -> Iterator[Sample]:
        """Yield the samples of now."""
        world = self._world
        bus = world.bus.counters
        yield BUILD_INFO(1, version=__version__, python_version=platform.python_version())
        yield CONNECTED(bus.connected)
        yield RECONNECTS(bus.reconnects)
        yield DECODE_ERRORS(bus.decode_errors + world.activity.undecodable)
        yield SHED(bus.shed)
        yield GRAINS_ERRORS(world.index.errors)
        for level in LEVELS:
            yield LOG_MESSAGES(counted.counts[level], level=level)
        yield SERIES_OMITTED(_absent_without_series(world), metric="salt_presence_minion_not_present")
        yield SAMPLE_AGE(world.sampler.age, source="sockets")
        yield SAMPLE_AGE(world.age, source="refresh")
        if world.journal:
            yield JOURNAL_PERSISTENT(world.journal.persistent)
            yield JOURNAL_LOSSES(world.journal.rows)
            yield JOURNAL_ERRORS(world.journal.errors)
        yield RELOAD_SUCCESSFUL(world.reload.successful)
        yield RELOAD_TIME(world.reload.time)
        yield WEB_RELOAD_SUCCESSFUL(world.web_reload.successful)
        yield WEB_RELOAD_TIME(world.web_reload.time)


def _absent_without_series(world: World) -> int:
    presence = world.newest_presence
    if presence is None or world.config.presence_all_minions:
        return 0
    absent = presence.counts()[NOT_PRESENT]
    return max(0, absent - world.config.presence_max_series)
