"""Responses that went missing, as more than one dashboard shows them: each cause has one colour everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana.links import to_dashboard
from grafana.panels import timeseries
from grafana.promql import per_minute, with_any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafana.parts import Json

MISSING = "salt_jobs_missing_responses_total"
NOTHING_MISSING = "No response went missing in this time range."

# Those about a minion that is away are yellow, the master's own queue is red, the network purple, a minion that got
# the job blue, the way back orange, and what nobody knows grey.
COLOURS = {
    "unknown_minion": "light-yellow",
    "not_connected": "yellow",
    "disconnected": "dark-yellow",
    "publisher_drop": "red",
    "publisher_queue": "light-red",
    "network_stall": "purple",
    "minion_silent": "dark-blue",
    "minion_no_return": "light-blue",
    "return_lost": "orange",
    "exporter_gap": "gray",
    "unknown": "light-gray",
}


def missing_by_cause(*, width: int, height: int = 8, causes: Sequence[str] = (), title: str = "") -> Json:
    """Return the graph of missing responses, of all causes or of some."""
    counter = f'{MISSING}{{cause=~"{"|".join(causes)}"}}' if causes else MISSING
    return timeseries(
        title or "Missing responses by cause",
        "Responses per minute that were expected and had not come when their job was closed, by what became of them. "
        "Points are exemplars: each names the jid and the minion of one such response.",
        {"{{cause}}": with_any(per_minute(counter, "cause"), counter, "cause")},
        width=width,
        height=height,
        unit="suffix:/min",
        stack=True,
        colours={cause: COLOURS[cause] for cause in causes or COLOURS},
        legend="right",
        runbooks=["SaltResponsesMissingByCause"],
        empty=NOTHING_MISSING,
        exemplars=True,
        to=[to_dashboard("salt-jobs", "Which jobs, which functions?")],
    )


def on_one_of_bus_and_cache_only(*, width: int) -> Json:
    """Return the graph of returns that the master took and did not store, or stored and did not tell about."""
    return timeseries(
        "Returns on one of bus and job cache only",
        "Per minute. On the bus only: the master did not store it. In the cache only: readers of the bus missed it.",
        {
            "bus only": per_minute("salt_jobs_bus_only_responses_total"),
            "job cache only": per_minute("salt_jobs_cache_only_responses_total"),
        },
        width=width,
        unit="suffix:/min",
        runbooks=["SaltReturnsNotStored"],
        empty="The job cache cannot be compared.",
    )
