"""Jobs: which functions lose responses, for which cause, and how long the others take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana.dashboard import dashboard
from grafana.links import to_dashboard, to_losses
from grafana.losses import MISSING, NOTHING_MISSING, missing_by_cause, on_one_of_bus_and_cache_only
from grafana.panels import bargauge, stat, text, timeseries
from grafana.promql import in_range, per_minute, quantile
from grafana.tables import table
from salt_exporter.analysis.causes import EXPLANATIONS

if TYPE_CHECKING:
    from grafana.parts import Json

_RECEIVED = "salt_jobs_closed_received_responses_total"
_EXPECTED = "salt_jobs_closed_expected_responses_total"
_NO_JOB = "No job was closed in this time range."
_MINIONS = to_dashboard("salt-minions", "Which minions?")
_PATH = to_dashboard("salt-message-path", "Where on the message path?")


def jobs() -> Json:
    """Return the dashboard `salt-jobs`."""
    return dashboard(
        "salt-jobs",
        "Salt / Jobs",
        "Which jobs do not come back whole, for which cause, and how long do the others take? A click on a cause "
        "lists its losses with jid and minion.",
        {
            "Do jobs come back whole?": _outcome(),
            "What is missing, and why?": _causes(),
            "How many jobs, and how fast?": _rates(),
            "What the causes mean": [_meanings()],
        },
    )


def _outcome() -> list[Json]:
    closed = "salt_jobs_closed_total"
    return [
        stat(
            "Jobs closed",
            "Jobs that ended in the time range shown: all had returned, or their time was over.",
            in_range(closed),
            width=4,
            decimals=0,
            empty="no jobs",
        ),
        stat(
            "Incomplete",
            "Jobs in the time range shown whose time was over while responses were missing.",
            in_range(f'{closed}{{outcome="incomplete"}}'),
            width=4,
            decimals=0,
            empty="no jobs",
        ),
        stat(
            "Job completion",
            "Responses received for each one expected, over the jobs closed in the time range shown.",
            f"{in_range(_RECEIVED)} / ({in_range(_EXPECTED)} > 0)",
            width=4,
            unit="percentunit",
            decimals=1,
            alerts=["SaltJobCompletionLow"],
            empty="no jobs",
        ),
        stat(
            "Lost by connected minions",
            "Share of the expected responses of the last 30 minutes that minions owe which were there to give them; "
            "worst of the selected masters. From the recording rules.",
            "max(instance:salt_jobs_lost_responses:ratio_increase30m{MASTER})",
            width=4,
            unit="percentunit",
            decimals=1,
            alerts=["SaltResponsesMissing"],
            empty="no jobs",
        ),
        stat(
            "Jobs in flight",
            "Jobs published and not closed yet.",
            "sum(salt_jobs_in_flight{MASTER})",
            width=4,
        ),
        stat(
            "Responses outstanding",
            "Responses that the jobs in flight still wait for.",
            "sum(salt_jobs_responses_outstanding{MASTER})",
            width=4,
        ),
    ]


def _causes() -> list[Json]:
    return [
        missing_by_cause(width=12),
        table(
            "Missing responses by function and cause",
            "Responses that went missing in the time range shown. A click on a cause lists them with jid and minion, "
            "as far as the exporter's journal goes back; without a click: `salt-exporter losses --cause …`.",
            {"function": "Function", "cause": "Cause", "instance": "Master"},
            {"Missing": f"{in_range(MISSING, 'function', 'cause', 'instance')} > 0"},
            width=12,
            sort="Missing",
            descending=True,
            empty=NOTHING_MISSING,
            fields={
                "Cause": {"links": [to_losses("Jids and minions", cause="Cause")]},
                "Missing": {"decimals": 0, "custom.width": 90},
            },
            alerts=["SaltResponsesMissingByCause"],
        ),
        bargauge(
            "Job completion by function",
            "Responses received for each one expected, over the jobs closed in the time range shown.",
            {"{{function}}": f"{in_range(_RECEIVED, 'function')} / ({in_range(_EXPECTED, 'function')} > 0)"},
            width=8,
            alerts=["SaltJobCompletionLow"],
            empty=_NO_JOB,
        ),
        timeseries(
            "Completion of the last hour",
            "Responses received for each one expected over the hour before each point, as SaltJobCompletionLow sees "
            "it. From the recording rules.",
            {"{{instance}}": "instance:salt_jobs_completion:ratio_increase1h{MASTER}"},
            width=8,
            unit="percentunit",
            full=1,
            alerts=["SaltJobCompletionLow"],
            empty=_NO_JOB,
        ),
        timeseries(
            "Responses late, twice or unasked",
            "Per minute. Late: after the job was closed, so it counts as missing too. Twice: the minion repeated it "
            "because the master did not answer. Unasked: from a minion that the job did not name.",
            {
                "late": per_minute("salt_jobs_late_responses_total"),
                "twice": per_minute("salt_jobs_duplicate_responses_total"),
                "unasked": per_minute("salt_jobs_unexpected_responses_total"),
            },
            width=8,
            unit="suffix:/min",
            empty="No job was seen yet.",
            to=[_PATH],
        ),
    ]


def _rates() -> list[Json]:
    return [
        timeseries(
            "New jobs by function",
            "Jobs published per minute.",
            {"{{function}}": per_minute("salt_jobs_new_total", "function")},
            width=8,
            unit="suffix:/min",
            legend="right",
            stack=True,
            empty="No job was seen yet.",
        ),
        timeseries(
            "Closed jobs by outcome",
            "Per minute. Incomplete: responses were missing when the job's time was over. Unknown: it cannot be said "
            "who should have responded.",
            {"{{outcome}}": per_minute("salt_jobs_closed_total", "outcome")},
            width=8,
            unit="suffix:/min",
            stack=True,
            colours={"complete": "green", "incomplete": "red", "unknown": "yellow"},
            empty="No job was seen yet.",
        ),
        timeseries(
            "Jobs in flight and responses outstanding",
            "Jobs that are not closed yet, and the responses that they still wait for.",
            {
                "jobs": "sum(salt_jobs_in_flight{MASTER})",
                "responses": "sum(salt_jobs_responses_outstanding{MASTER})",
            },
            width=8,
            unit="locale",
        ),
        timeseries(
            "Time to respond",
            "From the publication of a job to the return of a minion: half of the responses, and 95 and 99 of 100, "
            "took less.",
            {f"{share:.0%}": quantile(share, "salt_jobs_response_seconds") for share in (0.5, 0.95, 0.99)},
            width=8,
            unit="s",
            empty="No job came back in this time range.",
        ),
        timeseries(
            "Time to respond by function, 95 %",
            "95 of 100 responses took less.",
            {"{{function}}": quantile(0.95, "salt_jobs_response_seconds", "function")},
            width=8,
            unit="s",
            legend="right",
            empty="No job came back in this time range.",
        ),
        on_one_of_bus_and_cache_only(width=8),
    ]


def _meanings() -> Json:
    rows = [f"| `{cause.value}` | {known.means} | {known.advice} |" for cause, known in EXPLANATIONS.items()]
    return text(
        "Causes",
        "What each cause of a missing response means, and what to do about it.",
        "\n".join(["| cause | what happened | what to do |", "|---|---|---|", *rows]),
        width=24,
        height=17,
    )
