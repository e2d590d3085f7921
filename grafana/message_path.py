"""The message path: at which of the six places is something lost or about to be, queue by queue against its limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana.dashboard import dashboard
from grafana.links import to_dashboard, to_exporter, to_losses
from grafana.losses import missing_by_cause, on_one_of_bus_and_cache_only
from grafana.panels import stat, text, timeseries
from grafana.pressure import every_queue
from grafana.promql import in_range, matched, per_minute, per_second, quantile
from grafana.tables import table, watched

if TYPE_CHECKING:
    from grafana.parts import Json

_PAGE = to_exporter("The exporter's own page")
_JOBS = to_dashboard("salt-jobs", "Which jobs, which minions?")
_MINIONS = to_dashboard("salt-minions", "Which minions?")

_PATH = """\
**`salt`** → ① port 4506, workers → **master** → ② queue per minion, port 4505 → ③ network → ④ **minion** → \
⑤ network, port 4506 → ⑥ **master**: event bus, job cache

Read from left to right; the rows below have the same numbers. The first number that is not green is where to look.
"""


def message_path() -> Json:
    """Return the dashboard `salt-message-path`."""
    return dashboard(
        "salt-message-path",
        "Salt / Message path",
        "Where on its way is a message lost, or about to be? The six places between a salt command and the stored "
        "return, each with its queues against their limits.",
        {
            "The six places": _places(),
            "① From clients to the master (4506): accepted, queued, answered?": _request(),
            "② From the master to its minions (4505): is somebody there, is the queue full?": _publish(),
            "③ The network": _network(),
            "④ The minion, and ⑤ its return": _minion(),
            "⑥ The master got the return: event bus and job cache": _bus(),
            "The master's processes": _processes(),
        },
    )


def _places() -> list[Json]:
    return [
        text("The path of a message", "How the six places follow each other.", _PATH, width=24, height=3),
        stat(
            "① Answer time",
            "The slowest of the selected masters: nine of ten harmless requests through port 4506, router, queue and "
            "worker took less in the last 10 minutes. From the recording rules.",
            "max(instance:salt_probe_request_seconds:p90_rate10m{MASTER} >= 0)",
            width=3,
            unit="s",
            alerts=["SaltRequestProbeSlow"],
            empty="no answers",
        ),
        stat(
            "① Unanswered",
            "How long the oldest request without a reply has waited at the master.",
            "max(salt_request_oldest_unanswered_seconds{MASTER})",
            width=3,
            unit="s",
            empty="cannot be told",
        ),
        stat(
            "② Not present",
            "Accepted minions without a connection and without another sign of life. Jobs do not reach them.",
            'sum(salt_presence_minions{MASTER,state="not_present"})',
            width=3,
            alerts=["SaltMinionNotPresent"],
            to=[_MINIONS],
        ),
        stat(
            "② Fullest queue",
            "Queue of the slowest minion against pub_hwm. At 100 % the next message to that minion is dropped.",
            "max(salt_publish_hwm_ratio{MASTER})",
            width=3,
            unit="percentunit",
            decimals=0,
            alerts=["SaltPublishQueueNearlyFull"],
        ),
        stat(
            "② Dropped",
            "Messages dropped at pub_hwm in the time range shown.",
            in_range("salt_publish_dropped_messages_total"),
            width=3,
            decimals=0,
            alerts=["SaltMessagesDropped"],
        ),
        stat(
            "③ Stalled",
            "Connections to minions whose data the kernel cannot get rid of: the minion does not read, or the network "
            "does not carry.",
            "sum(salt_publish_stalled_subscribers{MASTER})",
            width=3,
            alerts=["SaltSubscribersStalled"],
        ),
        stat(
            "④⑤ No return",
            "Responses missing in the time range shown although the job reached the minion's host: the minion was "
            "silent, did not return, or its return was lost.",
            in_range('salt_jobs_missing_responses_total{cause=~"minion_silent|minion_no_return|return_lost"}'),
            width=3,
            decimals=0,
            alerts=["SaltResponsesMissingByCause"],
            empty="no jobs",
            to=[_JOBS],
        ),
        stat(
            "⑥ Not stored",
            "Returns that came over the event bus in the time range shown and are not in the job cache.",
            in_range("salt_jobs_bus_only_responses_total"),
            width=3,
            decimals=0,
            alerts=["SaltReturnsNotStored"],
            empty="not checked",
        ),
        every_queue(width=24, height=7),
    ]


def _request() -> list[Json]:
    queue = matched('salt_connections_listen_queue{channel="request"}')
    limit = matched('salt_connections_listen_queue_limit{channel="request"}')
    return [
        timeseries(
            "Time of a harmless request",
            "The exporter's own ping through port 4506, router, queue and worker, and back. Attempts without any "
            "answer do not count here.",
            {
                f"{share:.0%}": quantile(share, 'salt_probe_duration_seconds{probe="request"}')
                for share in (0.5, 0.9, 0.99)
            },
            width=8,
            unit="s",
            runbooks=["SaltRequestProbeSlow", "SaltRequestProbeFailing"],
            empty="The request probe is off, or the master answers nothing.",
        ),
        timeseries(
            "Requests without a reply",
            "Connections to 4506 whose request has had no reply for a second or longer.",
            {"{{instance}}": "max by (instance) (salt_request_unanswered_connections{MASTER})"},
            width=8,
            unit="locale",
            empty="Cannot be told with this transport.",
            to=[_PAGE],
        ),
        timeseries(
            "Bytes that wait for the workers",
            "Requests that the master has not read from the network, and what waits in the sockets between router and "
            "workers. Above 0 for long: workers are stopped, stuck or too few.",
            {
                "not read from 4506": "sum(salt_request_receive_queue_bytes{MASTER})",
                "router to workers, {{pool}}": "sum by (pool) (salt_request_worker_queue_bytes{MASTER})",
            },
            width=8,
            unit="bytes",
            alerts=["SaltRequestQueueNotEmpty"],
        ),
        timeseries(
            "Workers busy",
            "Share of the time that workers work: from the master's own statistics if it sends them, else from their "
            "CPU time. From the recording rules.",
            {"{{instance}}": "instance:salt_workers_busy:ratio{MASTER}"},
            width=6,
            unit="percentunit",
            full=1,
            alerts=["SaltWorkersSaturated"],
            empty="Needs the recording rules in alerts/salt.rules.yml.",
        ),
        timeseries(
            "Workers that do not answer",
            "How many of as many pings as there are workers remained unanswered, which go to the workers in turn. The "
            "router goes on giving stuck workers their share of the requests.",
            {"{{instance}}": "max by (instance) (salt_request_workers_stuck{MASTER})"},
            width=6,
            unit="locale",
            alerts=["SaltWorkersStuck"],
            empty="The request probe is off, or the transport is not zeromq.",
        ),
        timeseries(
            "Commands that workers ran",
            "Seconds of worker time per second, by command, from the master's own statistics.",
            {"{{command}}": per_second("salt_workers_command_seconds_total", "command")},
            width=6,
            unit="s",
            legend="right",
            stack=True,
            empty="The master sends no statistics: set master_stats.",
        ),
        timeseries(
            "Connections waiting to be accepted, 4506",
            "The kernel's accept queue of the request port and its limit. What comes beyond it is turned away.",
            {"waiting": f"max({queue})", "limit": f"min({limit})"},
            width=6,
            unit="locale",
            limit="limit",
            runbooks=["SaltListenQueueOverflowing"],
        ),
    ]


def _publish() -> list[Json]:
    limit = matched('salt_settings_value{option="pub_hwm"}')
    return [
        timeseries(
            "Messages waiting for the slowest minion",
            "Estimate of the messages in the master's own ZeroMQ queue for the slowest minion, and pub_hwm, where it "
            "drops.",
            {"waiting": "max(salt_publish_hwm_queue_messages_max{MASTER})", "pub_hwm": f"min({limit})"},
            width=8,
            unit="locale",
            limit="pub_hwm",
            runbooks=["SaltPublishQueueNearlyFull"],
        ),
        timeseries(
            "Messages lost by the master",
            "Messages per minute that never reached a minion: dropped at pub_hwm, waiting for a minion whose "
            "connection ended, or not sent to anybody.",
            {
                "dropped at pub_hwm": per_minute("salt_publish_dropped_messages_total"),
                "lost with a connection": per_minute("salt_publish_lost_on_close_messages_total"),
                "not sent to anybody": per_minute("salt_publish_frames_missing_total"),
            },
            width=8,
            unit="suffix:/min",
            runbooks=["SaltMessagesDropped", "SaltJobsNotPublished"],
        ),
        table(
            "Dropped for whom",
            "Messages dropped at pub_hwm in the time range shown, by minion; those that no address of their own tells "
            "apart are only in the total.",
            {"minion": "Minion", "instance": "Master"},
            {"Dropped": f"{in_range('salt_publish_minion_dropped_messages_total', 'minion', 'instance')} > 0"},
            width=8,
            sort="Dropped",
            descending=True,
            empty="Nothing was dropped in this time range.",
            fields={
                "Minion": {"links": [to_losses("What it lost (jobs, times)", minion="Minion")]},
                "Dropped": {"decimals": 0},
            },
        ),
        timeseries(
            "Subscribers that fall behind",
            "Behind: messages wait in ZeroMQ. Stalled: bytes wait in the kernel and do not move. Silent: no answer to "
            "heartbeats (3006, 3008).",
            {
                "behind": "sum(salt_publish_subscribers_behind{MASTER})",
                "stalled": "sum(salt_publish_stalled_subscribers{MASTER})",
                "silent": "sum(salt_publish_silent_subscribers{MASTER})",
            },
            width=8,
            unit="locale",
            colours={"behind": "yellow", "stalled": "orange", "silent": "purple"},
            runbooks=["SaltSubscribersStalled"],
        ),
        timeseries(
            "Published messages",
            "Messages per minute that the master published, each to every subscriber.",
            {"{{instance}}": per_minute("salt_publish_messages_total", "instance")},
            width=8,
            unit="suffix:/min",
        ),
        timeseries(
            "Published bytes to each subscriber",
            "Bytes per second that each minion has to take; times the number of minions is what the master sends.",
            {"{{instance}}": per_second("salt_publish_bytes_total", "instance")},
            width=8,
            unit="Bps",
        ),
    ]


def _network() -> list[Json]:
    return [
        timeseries(
            "Bytes on their way to minions",
            "Bytes in the kernel's send queues of port 4505 that minions have not acknowledged: all together, and the "
            "fullest queue.",
            {
                "all": "sum(salt_publish_send_queue_bytes{MASTER})",
                "fullest": "max(salt_publish_send_queue_max_bytes{MASTER})",
            },
            width=8,
            unit="bytes",
        ),
        timeseries(
            "Bytes sent again",
            "Bytes per second that the kernel had to repeat because nobody acknowledged them: the network loses "
            "packets.",
            {"{{channel}}": per_second("salt_connections_retransmitted_bytes_total", "channel")},
            width=8,
            unit="Bps",
        ),
        timeseries(
            "Connections turned away by the host",
            "Connections per minute that found an accept queue full, and attempts dropped; of all listeners of the "
            "hosts.",
            {
                "queue full": per_minute("salt_connections_listen_overflows_total"),
                "dropped": per_minute("salt_connections_listen_drops_total"),
            },
            width=8,
            unit="suffix:/min",
            runbooks=["SaltListenQueueOverflowing"],
        ),
        _connections("publish", "4505", "Every minion that is to receive jobs holds one that is established."),
        _connections("request", "4506", "Minions open them to return results, authenticate or fetch files."),
        timeseries(
            "Connections opened and closed",
            "Per minute. A reconnect storm is a high, narrow peak of both.",
            {
                "{{channel}} opened": per_minute("salt_connections_opened_total", "channel"),
                "{{channel}} closed": per_minute("salt_connections_closed_total", "channel"),
            },
            width=8,
            unit="suffix:/min",
            legend="right",
        ),
    ]


def _connections(channel: str, port: str, sentence: str) -> Json:
    series = matched(f'salt_connections{{channel="{channel}"}}')
    return timeseries(
        f"Connections to {port}",
        f"TCP connections of the {channel} port by state. {sentence}",
        {"{{state}}": f"sum by (state) ({series}) > 0"},
        width=8,
        unit="locale",
        legend="right",
        empty="Nobody is connected.",
    )


def _minion() -> list[Json]:
    return [
        missing_by_cause(
            title="Delivered, and no response",
            causes=["minion_silent", "minion_no_return", "return_lost"],
            width=8,
        ),
        timeseries(
            "Responses late, twice or unasked",
            "Per minute. Late: after the job was closed. Twice: the minion repeated it because the master did not "
            "answer. Unasked: from a minion that the job did not name.",
            {
                "late": per_minute("salt_jobs_late_responses_total"),
                "twice": per_minute("salt_jobs_duplicate_responses_total"),
                "unasked": per_minute("salt_jobs_unexpected_responses_total"),
            },
            width=8,
            unit="suffix:/min",
            empty="No job was seen yet.",
            to=[_JOBS],
        ),
        timeseries(
            "Time of a return on its way back",
            "From the minion's clock when it sent a return to the master's when it took it, to a second: long means "
            "the request path is slow, or the clocks differ.",
            {f"{share:.0%}": quantile(share, "salt_jobs_return_delivery_seconds") for share in (0.5, 0.95)},
            width=8,
            unit="s",
            empty="No return says when it was sent.",
        ),
    ]


def _bus() -> list[Json]:
    return [
        on_one_of_bus_and_cache_only(width=8),
        timeseries(
            "Bytes that readers of the event bus have not read",
            "By program. A full socket holds 100 to 200 kB; beyond that the master keeps events in memory, or cuts the "
            "reader off.",
            {"{{process}}": "max by (process) (salt_eventbus_consumer_queue_bytes{MASTER})"},
            width=8,
            unit="bytes",
            legend="right",
            alerts=["SaltEventBusConsumerSlow"],
            empty="The readers cannot be looked at.",
        ),
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
    ]


def _processes() -> list[Json]:
    return [
        table(
            "Processes and their open files",
            "How many processes of each role there are, and how many of its files the fullest of them has open. The "
            "limit is max_open_files and the unit's LimitNOFILE.",
            {"role": "Role", "instance": "Master"},
            {
                "Number": "max by (role, instance) (salt_processes{MASTER}) > 0",
                "Open files": "max by (role, instance) (salt_processes_open_fds{MASTER})",
                "Of limit": "max by (role, instance) (instance_role:salt_processes_fds:ratio{MASTER})",
            },
            width=12,
            height=16,
            sort="Open files",
            descending=True,
            empty="The master does not run.",
            fields={
                "Of limit": watched("SaltFileDescriptorsNearLimit", unit="percentunit", decimals=1),
                "Role": {"custom.width": 160},
                "Number": {"custom.width": 80},
            },
            alerts=["SaltFileDescriptorsNearLimit"],
        ),
        timeseries(
            "CPU by role",
            "Cores that the master's processes use.",
            {"{{role}}": f"{per_second('salt_processes_cpu_seconds_total', 'role')} > 0.001"},
            width=12,
            unit="short",
            stack=True,
            legend="right",
            empty="The master does not run.",
        ),
        timeseries(
            "Memory by role",
            "Resident memory of the master's processes; pages that they share are counted in each.",
            {"{{role}}": "sum by (role) (salt_processes_resident_memory_bytes{MASTER}) > 0"},
            width=12,
            unit="bytes",
            stack=True,
            legend="right",
            empty="The master does not run.",
        ),
    ]
