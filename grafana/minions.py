"""Minions: who is not there, who keeps missing jobs, whose keys wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana.dashboard import dashboard
from grafana.links import to_exporter_of_row, to_losses
from grafana.panels import stat, timeseries
from grafana.promql import absent_share, in_range, matched, per_minute
from grafana.tables import table, watched

if TYPE_CHECKING:
    from grafana.parts import Json


def minions() -> Json:
    """Return the dashboard `salt-minions`."""
    return dashboard(
        "salt-minions",
        "Salt / Minions",
        "Which minions are not there, which ones keep missing jobs, and whose keys wait to be accepted? A click on a "
        "minion lists what it lost.",
        {
            "How many are there?": _counts(),
            "Who is not there?": _absent(),
            "Who loses what it is sent?": _losers(),
            "Keys and addresses": _keys(),
        },
    )


def _counts() -> list[Json]:
    return [
        _state(
            "Present", "present", "Accepted minions that are connected to the publish port (4505), where jobs are sent."
        ),
        _state(
            "Not present",
            "not_present",
            "Accepted minions without a connection and without another sign of life. Jobs do not reach them.",
            alerts=["SaltMinionNotPresent"],
        ),
        _state(
            "Uncertain",
            "uncertain",
            "Accepted minions whose presence cannot be decided, such as several behind one NAT address.",
        ),
        stat(
            "Not present, share",
            "Share of its accepted minions that a master is missing, or that all members of a master cluster are "
            "missing; the worst of the selected masters.",
            f"max({absent_share()})",
            width=4,
            unit="percentunit",
            decimals=1,
            alerts=["SaltMinionsNotPresent", "SaltClusterMinionsNotPresent"],
        ),
        stat(
            "More absent than usual",
            "By how many minions more are absent than in the middle of the last six hours; the worst of the selected "
            "masters; members of a master cluster are left out. From the recording rules.",
            "max(instance:salt_presence_vanished:delta6h{MASTER} "
            "unless on (job, instance) salt_master_cluster_info{MASTER})",
            width=4,
            decimals=0,
            alerts=["SaltMinionsVanished"],
            empty="needs the rules",
        ),
        stat(
            "Keys pending",
            "Minions whose key nobody has accepted or rejected yet.",
            'sum(salt_keys{MASTER,state="pending"})',
            width=4,
            alerts=["SaltKeysPending"],
        ),
    ]


def _state(title: str, state: str, description: str, alerts: tuple[str, ...] | list[str] = ()) -> Json:
    series = matched(f'salt_presence_minions{{state="{state}"}}')
    return stat(title, description, f"sum({series})", width=4, alerts=alerts)


def _absent() -> list[Json]:
    absent = "(salt_presence_minion_not_present{MASTER} == 1)"
    return [
        timeseries(
            "Accepted minions by presence",
            "The three states add up to the accepted keys. A minion of several masters counts at each of them.",
            {"{{state}}": "sum by (state) (salt_presence_minions{MASTER})"},
            width=12,
            unit="locale",
            stack=True,
            colours={"present": "green", "not_present": "red", "uncertain": "yellow"},
        ),
        table(
            "Minions that are not present",
            "By default 1000 at most: “Not present” above counts all. The last sign of life is one on the event bus "
            "since the exporter started. A minion that is absent from every master that knows it is gone, of which "
            "SaltMinionGone tells.",
            {"minion": "Minion", "instance": "Master"},
            {
                "": f"max by (minion, instance) ({absent})",
                "Last sign of life": "max by (minion, instance) ("
                "1000 * salt_presence_minion_last_seen_timestamp_seconds{MASTER}"
                f" and on (job, instance, minion) {absent})",
                "Absent from": f"max by (minion, instance) ({absent} * on (minion) group_left () {_MASTERS})",
            },
            width=12,
            empty="All accepted minions are present or uncertain.",
            sort="Last sign of life",
            fields={
                "Minion": {"links": [to_losses("What it lost", minion="Minion")]},
                "Last sign of life": {"unit": "dateTimeFromNow", "noValue": "none"},
                "Absent from": {"unit": "suffix:master(s)"},
            },
            alerts=["SaltMinionNotPresent", "SaltMinionGone"],
        ),
    ]


_MASTERS = "count by (minion) (salt_presence_minion_not_present{MASTER} == 1)"


def _losers() -> list[Json]:
    return [
        table(
            "Minions that keep missing jobs",
            "How many jobs in a row each of the worst minions has not answered, until now. A click lists them with "
            "jid and cause.",
            {"minion": "Minion", "instance": "Master"},
            {"Missed in a row": "max by (minion, instance) (salt_jobs_minion_consecutive_misses{MASTER}) > 0"},
            width=8,
            sort="Missed in a row",
            descending=True,
            empty="Every minion has answered its last job.",
            fields={"Minion": {"links": [to_losses("What it lost", minion="Minion")]}},
        ),
        table(
            "Minions whose messages were dropped",
            "Messages that the master dropped for a minion in the time range shown, because its queue was full.",
            {"minion": "Minion", "instance": "Master"},
            {"Dropped": f"{in_range('salt_publish_minion_dropped_messages_total', 'minion', 'instance')} > 0"},
            width=8,
            sort="Dropped",
            descending=True,
            empty="Nothing was dropped in this time range.",
            fields={
                "Minion": {"links": [to_losses("What it lost", minion="Minion")]},
                "Dropped": watched("SaltMessagesDropped", decimals=0),
            },
            alerts=["SaltMessagesDropped"],
        ),
        timeseries(
            "Minions connecting and leaving",
            "Connections to port 4505 per minute. Many of both at a time: a reconnect storm.",
            {
                "opened": per_minute('salt_connections_opened_total{channel="publish"}'),
                "closed": per_minute('salt_connections_closed_total{channel="publish"}'),
            },
            width=8,
            unit="suffix:/min",
        ),
    ]


def _keys() -> list[Json]:
    return [
        timeseries(
            "Keys by state",
            "Minion keys that the masters hold.",
            {"{{state}}": "sum by (state) (salt_keys{MASTER})"},
            width=8,
            unit="locale",
            colours={"accepted": "green", "pending": "blue", "rejected": "orange", "denied": "red"},
            runbooks=["SaltKeysPending"],
        ),
        timeseries(
            "Addresses that tell nothing",
            "Connected addresses that match no accepted minion (NAT, old grains), and minions that share an address "
            "with others. Where these are many, many minions are uncertain.",
            {
                "unknown addresses": "sum(salt_presence_unknown_peers{MASTER})",
                "minions sharing one": "sum(salt_presence_shared_address_minions{MASTER})",
            },
            width=8,
            unit="locale",
        ),
        table(
            "Masters and their minions",
            "Connected addresses can be fewer than accepted minions (NAT) or more (several networks). Omitted: absent "
            "minions beyond those that have a series of their own.",
            {"instance": "Master"},
            {
                "Accepted": 'max by (instance) (salt_keys{MASTER,state="accepted"})',
                "Connected": 'max by (instance) (salt_connections_peers{MASTER,channel="publish"})',
                "Omitted": "max by (instance) (salt_presence_not_present_series_omitted{MASTER})",
            },
            width=8,
            sort="Accepted",
            descending=True,
            fields={
                "Master": {"links": [to_exporter_of_row("The exporter's own page")]},
                "Accepted": {"custom.width": 100},
                "Connected": {"custom.width": 110},
                "Omitted": {"custom.width": 100},
            },
        ),
    ]
