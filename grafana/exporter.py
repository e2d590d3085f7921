"""The dashboard Exporter: whether the others can be believed, and what watching costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana.dashboard import dashboard
from grafana.links import to_exporter_of_row
from grafana.panels import stat, timeseries
from grafana.promql import per_minute, per_second
from grafana.tables import table, watched, yes_or_no

if TYPE_CHECKING:
    from grafana.parts import Json


def exporter() -> Json:
    """Return the dashboard `salt-exporter`."""
    return dashboard(
        "salt-exporter",
        "Salt / Exporter",
        "Can the other dashboards be believed: do the exporters see everything, and what does watching cost?",
        {
            "Does it see everything?": _sight(),
            "What does it not see?": _blind(),
            "Does it keep up?": _pace(),
            "What does it cost?": _cost(),
        },
    )


def _sight() -> list[Json]:
    return [
        stat(
            "Exporters up",
            "Share of the selected exporters that Prometheus can scrape. Other panels miss the rest.",
            # With all jobs selected, `up` has every target of this Prometheus: the alert's own choice of jobs again.
            'avg(up{MASTER,job=~"salt.*"})',
            width=4,
            unit="percentunit",
            words={0: "down", 1: "up"},
            alerts=["SaltExporterDown"],
            empty="job is not salt…",
        ),
        stat(
            "Event bus",
            "Share of the selected exporters that are connected to the event bus of their master. Jobs and responses "
            "are counted only while they are.",
            "avg(salt_exporter_eventbus_connected{MASTER})",
            width=4,
            unit="percentunit",
            words={0: "disconnected", 1: "connected"},
            alerts=["SaltEventBusDisconnected"],
        ),
        stat(
            "Collectors failing",
            "Collectors that failed at the last scrape. What they measure is missing on the dashboards.",
            "sum(1 - salt_exporter_collector_success{MASTER})",
            width=4,
            alerts=["SaltExporterCollectorFailing"],
        ),
        stat(
            "Oldest sample",
            "Age of the oldest thing that an exporter knows and still shows: the kernel's sockets, keys, grains, "
            "settings.",
            "max(salt_exporter_sample_age_seconds{MASTER})",
            width=4,
            unit="s",
            alerts=["SaltExporterSamplesOld"],
        ),
        stat(
            "Job cache",
            "Share of the selected exporters that can compare returns with the master's job cache.",
            "avg(salt_jobs_cache_readable{MASTER})",
            width=4,
            unit="percentunit",
            words={0: "not compared", 1: "compared"},
            colours={0: "orange", 1: "green"},
        ),
        stat(
            "Loss journal",
            "Share of the selected exporters that keep losses in a file. Those in memory are forgotten at a restart.",
            "avg(salt_exporter_journal_persistent{MASTER})",
            width=4,
            unit="percentunit",
            words={0: "in memory", 1: "in a file"},
            colours={0: "orange", 1: "green"},
        ),
    ]


def _blind() -> list[Json]:
    return [
        table(
            "Collectors",
            "Whether each collector answered at the last scrape, what share of the last ten minutes it failed, and "
            "how long it took. Why it failed stands in the exporter's log and on its own page.",
            {"collector": "Collector", "instance": "Master"},
            {
                "Works": "max by (collector, instance) (salt_exporter_collector_success{MASTER})",
                "Failed in range": "max by (collector, instance) "
                "(1 - avg_over_time(salt_exporter_collector_success{MASTER}[$__range]))",
                "Took": "max by (collector, instance) (salt_exporter_collector_duration_seconds{MASTER})",
            },
            width=12,
            height=16,
            sort="Works",
            fields={
                "Master": {"links": [to_exporter_of_row("The exporter's own page")], "custom.width": 180},
                "Works": yes_or_no(bad=0),
                "Failed in range": watched("SaltExporterCollectorFailing", unit="percentunit", decimals=0),
                "Took": {"unit": "s"},
            },
            alerts=["SaltExporterCollectorFailing"],
        ),
        timeseries(
            "Age of what it knows",
            "From the kernel's sockets, and from keys, grains and settings (refresh).",
            {"{{source}}": "max by (source) (salt_exporter_sample_age_seconds{MASTER})"},
            width=6,
            height=8,
            unit="s",
            runbooks=["SaltExporterSamplesOld"],
        ),
        timeseries(
            "Log messages",
            "Messages per minute in the exporter's log: each says what it cannot see and what to do.",
            {"{{level}}": per_minute("salt_exporter_log_messages_total", "level")},
            width=6,
            height=8,
            unit="suffix:/min",
            colours={"warning": "orange", "error": "red"},
        ),
        timeseries(
            "Series left out",
            "Series that an exporter leaves out to keep their number bounded.",
            {"{{metric}}": "sum by (metric) (salt_exporter_series_omitted{MASTER})"},
            width=6,
            height=8,
            unit="locale",
        ),
        timeseries(
            "Losses in the journal",
            "Rows that the loss journals hold, as far as they go back.",
            {"{{instance}}": "max by (instance) (salt_exporter_journal_losses{MASTER})"},
            width=6,
            height=8,
            unit="locale",
        ),
    ]


def _pace() -> list[Json]:
    return [
        timeseries(
            "Events by kind",
            "Events per second on the master's event bus.",
            {"{{kind}}": f"{per_second('salt_eventbus_events_total', 'kind')} > 0"},
            width=8,
            unit="suffix:/s",
            legend="right",
            stack=True,
            empty="Nothing happened on the event bus.",
        ),
        timeseries(
            "Age of the newest event",
            "It grows while the master has nothing to say: look for a steady rise.",
            {"{{instance}}": "max by (instance) (salt_eventbus_lag_seconds{MASTER})"},
            width=8,
            unit="s",
            empty="No event yet.",
        ),
        timeseries(
            "What went wrong",
            "Per minute. Events thrown away because the exporter fell behind, bytes on the bus that were no event, new "
            "connections to the bus, grains that could not be read, losses that could not be written to the journal.",
            {
                "events shed": per_minute("salt_exporter_events_shed_total"),
                "no events": per_minute("salt_exporter_eventbus_decode_errors_total"),
                "reconnections": per_minute("salt_exporter_eventbus_reconnects_total"),
                "grains": per_minute("salt_exporter_grains_cache_errors_total"),
                "journal": per_minute("salt_exporter_journal_errors_total"),
            },
            width=8,
            unit="suffix:/min",
            legend="right",
            runbooks=["SaltExporterSheddingEvents", "SaltEventBusDisconnected"],
        ),
    ]


def _cost() -> list[Json]:
    return [
        timeseries(
            "CPU",
            "Cores that the exporters use.",
            {
                "{{instance}}": "sum by (instance) (rate(process_cpu_seconds_total{MASTER}[$__rate_interval]) "
                "and on (job, instance) salt_exporter_build_info{MASTER})"
            },
            width=6,
            unit="percentunit",
        ),
        timeseries(
            "Memory",
            "Resident memory of the exporters.",
            {
                "{{instance}}": "max by (instance) (process_resident_memory_bytes{MASTER} "
                "and on (job, instance) salt_exporter_build_info{MASTER})"
            },
            width=6,
            unit="bytes",
        ),
        timeseries(
            "Time of a scrape by collector",
            "The slowest of the selected masters. Collectors work side by side, so the scrape takes as long as the "
            "slowest.",
            {"{{collector}}": "max by (collector) (salt_exporter_collector_duration_seconds{MASTER})"},
            width=12,
            unit="s",
            legend="right",
        ),
        table(
            "Exporters",
            "Which version runs on which Python, how many series a scrape has, and whether the last reload of its "
            "settings and of its web configuration succeeded.",
            {"instance": "Master", "version": "Version", "python_version": "Python"},
            {
                "Series": _with_version("scrape_samples_scraped"),
                "Settings reloaded": _with_version("salt_exporter_config_last_reload_successful"),
                "Web settings reloaded": _with_version("salt_exporter_web_config_reload_successful"),
            },
            width=24,
            height=5,
            sort="Version",
            fields={
                "Master": {"links": [to_exporter_of_row("The exporter's own page")]},
                "Settings reloaded": yes_or_no(bad=0),
                "Web settings reloaded": yes_or_no(bad=0),
            },
        ),
    ]


def _with_version(gauge: str) -> str:
    version = "group_left (version, python_version) salt_exporter_build_info{MASTER}"
    return f"max by (instance, version, python_version) ({gauge}{{MASTER}} * on (job, instance) {version})"
