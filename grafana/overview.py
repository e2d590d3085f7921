"""The Overview: is anything being lost, at which master and in which place, and since when."""

from __future__ import annotations

from grafana.dashboard import dashboard
from grafana.links import to_dashboard, to_dashboard_of_master, to_exporter_of_row, to_runbook_of_row
from grafana.losses import MISSING, missing_by_cause
from grafana.panels import stat, timeseries
from grafana.parts import Json, mappings
from grafana.pressure import every_queue
from grafana.promql import absent_share, in_range, matched, per_minute, quantile
from grafana.tables import table, watched, yes_or_no

_RECEIVED = "salt_jobs_closed_received_responses_total"
_EXPECTED = "salt_jobs_closed_expected_responses_total"
_DROPPED = "salt_publish_dropped_messages_total"
_JOBS = to_dashboard("salt-jobs", "Which jobs, and why?")
_PATH = to_dashboard("salt-message-path", "Where on the message path?")
_MINIONS = to_dashboard("salt-minions", "Which minions?")
_EXPORTER = to_dashboard("salt-exporter", "What does the exporter not see?")


def overview() -> Json:
    """Return the dashboard `salt-overview`."""
    return dashboard(
        "salt-overview",
        "Salt / Overview",
        "Is anything being lost between the Salt masters and their minions, where, and since when? "
        "Click on a number that is not green.",
        {
            "Is anything being lost? (orange and red: yes, click on it)": _losses(),
            "Where, and since when?": _course(),
            "Which master?": _masters(),
            "What is wrong, in words?": _findings(),
        },
    )


def _losses() -> list[Json]:
    return [
        stat(
            "Minions not present",
            "Share of its accepted minions that a master is missing, or that all members of a master cluster are "
            "missing; the worst of the selected masters.",
            f"max({absent_share()})",
            width=6,
            unit="percentunit",
            decimals=1,
            alerts=["SaltMinionsNotPresent", "SaltClusterMinionsNotPresent"],
            to=[_MINIONS],
        ),
        stat(
            "Responses missing",
            "Responses that were expected in the time range shown and did not come before their job was closed. "
            "Minions that were away are counted too.",
            in_range(MISSING),
            width=6,
            decimals=0,
            empty="no jobs",
            to=[_JOBS],
        ),
        stat(
            "Job completion",
            "Responses received for each one expected, over the jobs closed in the time range shown.",
            f"{in_range(_RECEIVED)} / ({in_range(_EXPECTED)} > 0)",
            width=6,
            unit="percentunit",
            decimals=1,
            alerts=["SaltJobCompletionLow"],
            empty="no jobs",
            to=[_JOBS],
        ),
        stat(
            "Messages dropped",
            "Messages that the masters dropped in the time range shown, because the queue of a minion was full "
            "(pub_hwm). Salt itself does not tell.",
            in_range(_DROPPED),
            width=6,
            decimals=0,
            alerts=["SaltMessagesDropped"],
            to=[_PATH],
        ),
        stat(
            "Masters up",
            "Share of the selected masters that listen on both the publish and the request port.",
            "avg(salt_master_up{MASTER})",
            width=6,
            height=3,
            unit="percentunit",
            words={0: "down", 1: "up"},
            alerts=["SaltMasterDown"],
            to=[_PATH],
        ),
        stat(
            "Request probe",
            "Share of the selected masters that answered the exporter's last harmless request through port 4506, "
            "router, queue and worker. Returns and `salt` commands take the same way.",
            'avg(salt_probe_success{MASTER,probe="request"})',
            width=6,
            height=3,
            unit="percentunit",
            words={0: "no answer", 1: "answered"},
            alerts=["SaltRequestProbeFailing"],
            empty="probe is off",
            to=[_PATH],
        ),
        stat(
            "Fullest publish queue",
            "Queue of the slowest minion against pub_hwm, now. When it is full, the next message to that minion is "
            "dropped.",
            "max(salt_publish_hwm_ratio{MASTER})",
            width=6,
            height=3,
            unit="percentunit",
            decimals=0,
            alerts=["SaltPublishQueueNearlyFull"],
            to=[_PATH],
        ),
        stat(
            "Collectors failing",
            "Collectors of the exporters that failed at the last scrape. What they measure is missing on this "
            "dashboard.",
            "sum(1 - salt_exporter_collector_success{MASTER})",
            width=6,
            height=3,
            alerts=["SaltExporterCollectorFailing"],
            to=[_EXPORTER],
        ),
    ]


def _course() -> list[Json]:
    return [
        missing_by_cause(width=12),
        timeseries(
            "Accepted minions by presence",
            "Jobs do not reach minions that are not present. Uncertain: presence cannot be decided, as behind NAT. The "
            "three states add up to the accepted keys; a minion of several masters counts at each of them.",
            {"{{state}}": "sum by (state) (salt_presence_minions{MASTER})"},
            width=12,
            unit="locale",
            stack=True,
            colours={"present": "green", "not_present": "red", "uncertain": "yellow"},
            legend="right",
            to=[_MINIONS],
        ),
        every_queue(width=12),
        timeseries(
            "Messages lost by the master",
            "Messages per minute that never reached a minion: dropped at pub_hwm, or waiting for a minion whose "
            "connection ended.",
            {
                "dropped at pub_hwm": per_minute(_DROPPED),
                "lost with a connection": per_minute("salt_publish_lost_on_close_messages_total"),
            },
            width=6,
            unit="suffix:/min",
            runbooks=["SaltMessagesDropped"],
            to=[_PATH],
        ),
        timeseries(
            "Time to respond",
            "From the publication of a job to the return of a minion: half of the responses, and 95 of 100, took less. "
            "Over all functions, so long states raise it.",
            {f"{share:.0%}": quantile(share, "salt_jobs_response_seconds") for share in (0.5, 0.95)},
            width=6,
            unit="s",
            empty="No job came back in this time range.",
            to=[_JOBS],
        ),
    ]


def _masters() -> list[Json]:
    completion = f"{in_range(_RECEIVED, 'instance')} / ({in_range(_EXPECTED, 'instance')} > 0)"
    return [
        table(
            "Masters",
            "One line per master, named after its exporter. A click on it shows the message path of this master alone.",
            {"instance": "Master"},
            {
                "Up": "max by (instance) (salt_master_up{MASTER})",
                "Accepted": 'max by (instance) (salt_keys{MASTER,state="accepted"})',
                "Not present": _of_state("not_present"),
                "Uncertain": _of_state("uncertain"),
                "Completion": completion,
                "Missing": in_range(MISSING, "instance"),
                "Dropped": in_range(_DROPPED, "instance"),
                "Fullest queue": "max by (instance) (salt_publish_hwm_ratio{MASTER})",
                "Events/s": "sum by (instance) (rate(salt_eventbus_events_total{MASTER}[$__rate_interval]))",
            },
            width=24,
            height=5,
            sort="Missing",
            descending=True,
            fields={
                "Master": {
                    "links": [
                        to_dashboard_of_master("salt-message-path", "Message path of this master"),
                        to_dashboard_of_master("salt-jobs", "Jobs of this master"),
                        to_exporter_of_row("The exporter's own page"),
                    ],
                    "custom.width": 220,
                },
                "Up": watched("SaltMasterDown", mappings=mappings({0: "down", 1: "up"})),
                "Completion": watched("SaltJobCompletionLow", unit="percentunit", decimals=1),
                "Dropped": watched("SaltMessagesDropped", decimals=0),
                "Missing": {"decimals": 0},
                "Fullest queue": watched("SaltPublishQueueNearlyFull", unit="percentunit", decimals=0),
                "Events/s": {"decimals": 1},
            },
            alerts=["SaltMasterDown", "SaltJobCompletionLow", "SaltMessagesDropped", "SaltPublishQueueNearlyFull"],
        )
    ]


def _of_state(state: str) -> str:
    series = matched(f'salt_presence_minions{{state="{state}"}}')
    return f"max by (instance) ({series})"


# Advice exists for a few options; the others matter where they are set and the master does not read them.
_RELEVANT = (
    "on (job, instance, option) (salt_settings_recommended{MASTER} or "
    "(salt_settings_effective{MASTER} == 0 and on (job, instance, option) salt_settings_value{MASTER} > 0))"
)


def _findings() -> list[Json]:
    return [
        table(
            "Firing alerts",
            "Alerts of these masters that fire now, and for how many things each. A click leads to the runbook.",
            {"alertname": "Alert", "severity": "Severity", "instance": "Master"},
            {
                "Times": "count by (alertname, severity, instance) "
                '(ALERTS{MASTER,alertname=~"Salt.*",alertstate="firing"})'
            },
            width=12,
            height=10,
            sort="Severity",
            empty="No alert fires.",
            fields={
                "Alert": {"links": [to_runbook_of_row("Runbook", "Alert")], "custom.width": 260},
                "Severity": {
                    "mappings": [
                        {
                            "type": "value",
                            "options": {
                                "critical": {"color": "red", "index": 0},
                                "warning": {"color": "orange", "index": 1},
                                "info": {"color": "blue", "index": 2},
                            },
                        }
                    ],
                    "custom.cellOptions": {"type": "color-text"},
                },
            },
        ),
        table(
            "Settings with advice, or without effect",
            "What the running masters are set to, and what is advised for their number of minions. Options that this "
            "version of Salt does not read have no effect.",
            {"option": "Option", "instance": "Master"},
            {
                "Value": f"max by (option, instance) (salt_settings_value{{MASTER}} and {_RELEVANT})",
                "Advised": "max by (option, instance) (salt_settings_recommended{MASTER})",
                "Of advice": "max by (option, instance) "
                "(salt_settings_value{MASTER} / salt_settings_recommended{MASTER})",
                "Read": f"max by (option, instance) (salt_settings_effective{{MASTER}} and {_RELEVANT})",
            },
            width=12,
            height=10,
            sort="Of advice",
            empty="The exporter has not read any settings yet.",
            fields={
                "Value": {"custom.width": 100},
                "Advised": {"custom.width": 100},
                "Of advice": watched("SaltSettingBelowAdvice", unit="percentunit", decimals=0) | {"custom.width": 100},
                "Read": yes_or_no(bad=0) | {"custom.width": 80},
                "Option": {"custom.width": 200},
            },
            alerts=["SaltSettingBelowAdvice", "SaltSettingWithoutEffect"],
        ),
    ]
