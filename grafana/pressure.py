"""How near every queue on the message path is to its limit, on one scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana.links import to_dashboard
from grafana.panels import timeseries
from grafana.promql import matched

if TYPE_CHECKING:
    from grafana.parts import Json


def every_queue(*, width: int, height: int = 8) -> Json:
    """Return the graph of all queues that have a limit, each as its share of it."""
    return timeseries(
        "Every queue against its limit",
        "The fullest of each kind among the selected masters. At 100 % the next message, connection or file is "
        "refused: the publish queue of the slowest minion against pub_hwm, the kernel's queues of connections that "
        "wait to be accepted, and the open files of the master's processes.",
        {
            "publish queue": "max(salt_publish_hwm_ratio{MASTER})",
            "accept queue 4505": _accept("publish"),
            "accept queue 4506": _accept("request"),
            "open files": "max(salt_processes_open_fds{MASTER} / salt_processes_max_fds{MASTER})",
        },
        width=width,
        height=height,
        unit="percentunit",
        full=1,
        legend="right",
        alerts=["SaltPublishQueueNearlyFull", "SaltFileDescriptorsNearLimit"],
        to=[to_dashboard("salt-message-path", "Where on the message path?")],
    )


def _accept(channel: str) -> str:
    queue = matched(f'salt_connections_listen_queue{{channel="{channel}"}}')
    limit = matched(f'salt_connections_listen_queue_limit{{channel="{channel}"}}')
    return f"max({queue} / {limit})"
