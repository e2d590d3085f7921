"""The Overview: is anything wrong with the master, its minions or the jobs, and since when."""

from __future__ import annotations

from grafana.dashboard import dashboard
from grafana.panels import Json, bargauge, mappings, stat, table, timeseries

_RECEIVED = "increase(salt_jobs_closed_received_responses_total{MASTER}[$__range])"
_EXPECTED = "increase(salt_jobs_closed_expected_responses_total{MASTER}[$__range])"


def overview() -> Json:
    """Return the dashboard `salt-overview`."""
    return dashboard(
        "salt-overview",
        "Salt / Overview",
        "Salt masters at a glance: are they up, are their minions there, do the jobs come back.",
        {
            "State": _state(),
            "Presence": _presence(),
            "Connections": _connections(),
            "Jobs": _jobs(),
            "Settings": _settings(),
            "Event bus": _event_bus(),
            "Exporter": _exporter(),
        },
    )


def _state() -> list[Json]:
    return [
        stat(
            "Masters up",
            "Share of the selected masters that listen on both the publish and the request port.",
            "avg(salt_master_up{MASTER})",
            width=4,
            unit="percentunit",
            words={0: "down", 1: "up"},
            alert="SaltMasterDown",
        ),
        stat(
            "Exporters up",
            "Share of the selected exporters that Prometheus can scrape. Other panels miss the rest.",
            # With all jobs selected, `up` has every target of this Prometheus: the alert's own choice of jobs again.
            'avg(up{MASTER,job=~"salt.*"})',
            width=4,
            unit="percentunit",
            words={0: "down", 1: "up"},
            alert="SaltExporterDown",
        ),
        stat(
            "Event bus",
            "Share of the selected exporters that are connected to the event bus of their master. Jobs and "
            "responses are counted only while they are.",
            "avg(salt_exporter_eventbus_connected{MASTER})",
            width=4,
            unit="percentunit",
            words={0: "disconnected", 1: "connected"},
            alert="SaltEventBusDisconnected",
        ),
        stat(
            "Collectors failing",
            "Collectors that failed in the last scrape. What they measure is missing on this dashboard.",
            "sum(1 - salt_exporter_collector_success{MASTER})",
            width=4,
            alert="SaltExporterCollectorFailing",
        ),
        stat(
            "Not present, share",
            "Share of its accepted minions that a master is missing; the worst of the selected masters.",
            'max(salt_presence_minions{MASTER,state="not_present"} / ignoring (state) '
            "sum without (state) (salt_presence_minions{MASTER}))",
            width=4,
            unit="percentunit",
            alert="SaltMinionsNotPresent",
        ),
        stat(
            "Job completion",
            "Responses received for each one expected, over the jobs closed in the time range shown.",
            f"sum({_RECEIVED}) / (sum({_EXPECTED}) > 0)",
            width=4,
            unit="percentunit",
            empty="no jobs",
        ),
        stat(
            "Accepted keys",
            "Minions whose key is accepted by the selected masters.",
            'sum(salt_keys{MASTER,state="accepted"})',
            width=6,
        ),
        stat(
            "Present",
            "Accepted minions that are connected to the publish port (4505), where jobs are sent.",
            'sum(salt_presence_minions{MASTER,state="present"})',
            width=6,
        ),
        stat(
            "Not present",
            "Accepted minions without a connection and without another sign of life. Jobs do not reach them.",
            'sum(salt_presence_minions{MASTER,state="not_present"})',
            width=6,
            alert="SaltMinionNotPresent",
        ),
        stat(
            "Uncertain",
            "Accepted minions whose presence cannot be decided, such as several behind one NAT address.",
            'sum(salt_presence_minions{MASTER,state="uncertain"})',
            width=6,
        ),
    ]


def _presence() -> list[Json]:
    return [
        timeseries(
            "Presence of accepted minions",
            "Accepted minions by presence; the three states add up to the accepted keys.",
            {"{{state}}": "sum by (state) (salt_presence_minions{MASTER})"},
            width=12,
            unit="locale",
            stack=True,
            colours={"present": "green", "not_present": "red", "uncertain": "yellow"},
        ),
        table(
            "Absent minions",
            "The accepted minions that are not present, 1000 at most by default: “Not present” counts all. "
            "The last sign of life is one on the event bus since the exporter started.",
            {"minion": "Minion", "instance": "Master"},
            {
                "": "max by (minion, instance) (salt_presence_minion_not_present{MASTER})",
                "Last sign of life": "max by (minion, instance) ("
                "1000 * salt_presence_minion_last_seen_timestamp_seconds{MASTER}"
                " and on (job, instance, minion) salt_presence_minion_not_present{MASTER})",
            },
            width=12,
            empty="All accepted minions are present or uncertain.",
            sort="Last sign of life",
            fields={"Last sign of life": {"unit": "dateTimeFromNow", "noValue": "none"}},
        ),
    ]


def _connections() -> list[Json]:
    return [
        timeseries(
            "Connections to the publish port (4505)",
            "TCP connections by state. Every minion that is to receive jobs holds one that is established.",
            {"{{state}}": 'sum by (state) (salt_connections{MASTER,channel="publish"})'},
            width=8,
            unit="locale",
        ),
        timeseries(
            "Connections to the request port (4506)",
            "TCP connections by state. Minions open them to return results, authenticate or fetch files.",
            {"{{state}}": 'sum by (state) (salt_connections{MASTER,channel="request"})'},
            width=8,
            unit="locale",
        ),
        timeseries(
            "Connections opened and closed",
            "New and ended connections per second. A reconnect storm is a high, narrow peak of both.",
            {
                "{{channel}} opened": _per_second("channel", "salt_connections_opened_total"),
                "{{channel}} closed": _per_second("channel", "salt_connections_closed_total"),
            },
            width=8,
            unit="cps",
        ),
    ]


def _jobs() -> list[Json]:
    return [
        timeseries(
            "New jobs by function",
            "Jobs published per minute.",
            {"{{function}}": f"60 * {_per_second('function', 'salt_jobs_new_total')}"},
            width=8,
            unit="cpm",
            stack=True,
        ),
        timeseries(
            "Finished jobs by outcome",
            "Jobs closed per minute. Incomplete: responses were missing when the job's time was over. "
            "Unknown: it cannot be said who should have responded.",
            {"{{outcome}}": f"60 * {_per_second('outcome', 'salt_jobs_closed_total')}"},
            width=8,
            unit="cpm",
            stack=True,
            colours={"complete": "green", "incomplete": "red", "unknown": "yellow"},
        ),
        bargauge(
            "Job completion by function",
            "Responses received for each one expected, over the jobs closed in the time range shown.",
            "{{function}}",
            f"sum by (function) ({_RECEIVED}) / (sum by (function) ({_EXPECTED}) > 0)",
            width=8,
            unit="percentunit",
            empty="No job was closed in this time range.",
        ),
        timeseries(
            "Response time",
            "Time from publishing a job to the return of a minion: the share of responses that a line is "
            "named after took less. Over all functions, so long states raise it.",
            {f"{share:.0%}": _response_time(share) for share in (0.5, 0.95, 0.99)},
            width=12,
            unit="s",
        ),
        timeseries(
            "Jobs in flight",
            "Jobs that are not closed yet, and the responses they still wait for.",
            {
                "jobs": "sum(salt_jobs_in_flight{MASTER})",
                "outstanding responses": "sum(salt_jobs_responses_outstanding{MASTER})",
            },
            width=12,
            unit="locale",
        ),
    ]


def _response_time(share: float) -> str:
    buckets = _per_second("le", "salt_jobs_response_seconds_bucket")
    return f"histogram_quantile({share}, {buckets})"


def _settings() -> list[Json]:
    return [
        table(
            "Settings and advice",
            "What the running master is set to, and what is recommended for its present number of minions. "
            "An option that is not effective is not read by this version of Salt.",
            {"option": "Option", "instance": "Master"},
            {
                "Value": "max by (option, instance) (salt_settings_value{MASTER})",
                "Recommended": "max by (option, instance) (salt_settings_recommended{MASTER})",
                "Enough": "max by (option, instance) ("
                "salt_settings_value{MASTER} >= bool salt_settings_recommended{MASTER})",
                "Effective": "max by (option, instance) (salt_settings_effective{MASTER})",
            },
            width=24,
            empty="The exporter has not read any settings yet.",
            sort="Recommended",
            descending=True,
            fields={
                "Enough": {
                    "mappings": mappings({0: "no", 1: "yes"}, {0: "orange"}),
                    "custom.cellOptions": {"type": "color-text"},
                },
                "Effective": {"mappings": mappings({0: "no", 1: "yes"})},
            },
        )
    ]


def _event_bus() -> list[Json]:
    return [
        timeseries(
            "Events by kind",
            "Events per second on the master's event bus.",
            {"{{kind}}": _per_second("kind", "salt_eventbus_events_total")},
            width=8,
            unit="cps",
            stack=True,
        ),
        timeseries(
            "Event bus lag",
            "Age of the newest event. It grows while the master has nothing to say: look for a steady rise.",
            {"{{instance}}": "max by (instance) (salt_eventbus_lag_seconds{MASTER})"},
            width=8,
            unit="s",
        ),
        timeseries(
            "Event bus trouble",
            "Reconnections to the event bus, and frames from it that could not be decoded. Normal is none.",
            {
                "reconnections": _number("salt_exporter_eventbus_reconnects_total"),
                "decode errors": _number("salt_exporter_eventbus_decode_errors_total"),
            },
            width=8,
            unit="short",
        ),
    ]


def _exporter() -> list[Json]:
    return [
        timeseries(
            "Scrape cost by collector",
            "Time each collector took in a scrape; the slowest of the selected masters.",
            {"{{collector}}": "max by (collector) (salt_exporter_collector_duration_seconds{MASTER})"},
            width=24,
            unit="s",
        )
    ]


def _per_second(label: str, counter: str) -> str:
    return f"sum by ({label}) (rate({counter}{{MASTER}}[$__rate_interval]))"


def _number(counter: str) -> str:
    return f"sum(increase({counter}{{MASTER}}[$__rate_interval]))"
