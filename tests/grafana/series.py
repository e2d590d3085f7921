"""Every series that a dashboard may ask for: the exporter's own, and what comes with every scrape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.alerts.declarations import TARGET, catalogue

if TYPE_CHECKING:
    from tests.alerts.labels import Catalogue

# Of prometheus_client's process collector, and of Prometheus itself.
_OF_EVERY_TARGET = ("process_cpu_seconds_total", "process_resident_memory_bytes", "scrape_samples_scraped")


def known_series() -> Catalogue:
    """Return every series name with its labels."""
    return {**catalogue(), **dict.fromkeys(_OF_EVERY_TARGET, TARGET)}
