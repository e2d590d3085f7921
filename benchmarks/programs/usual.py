"""The exporter that one would put together from what there is: `usual.py <config dir> <publish port> <request port>`.

psutil lists connections, Salt tells who is present (salt/runners/manage.py, `list_not_state`), prometheus_client
renders. Each line on standard input is answered with the size of the text.
"""

from __future__ import annotations

import sys
from collections import Counter

import prometheus_client
import psutil
import salt.config
import salt.key
import salt.utils.minions


def main(config_dir: str, ports: dict[int, str]) -> None:
    """Load what can be kept, say so, and answer until standard input ends."""
    opts = salt.config.master_config(f"{config_dir}/master")
    minions = salt.utils.minions.CkMinions(opts)
    registry = prometheus_client.CollectorRegistry()
    connections = prometheus_client.Gauge("connections", "By state.", ["channel", "state"], registry=registry)
    not_present = prometheus_client.Gauge("minion_not_present", "One each.", ["minion"], registry=registry)
    keys = prometheus_client.Gauge("keys", "By state.", ["state"], registry=registry)
    print("ready", flush=True)
    for _line in sys.stdin:
        found = Counter(
            (ports[one.laddr.port], one.status)
            for one in psutil.net_connections("tcp")
            if one.laddr and one.raddr and one.laddr.port in ports
        )
        for labels, number in found.items():
            connections.labels(*labels).set(number)
        connected = minions.connected_ids()
        with salt.key.get_key(opts) as key:
            listed = key.list_keys()
        for state, ids in listed.items():
            keys.labels(state).set(len(ids))
        not_present.clear()
        for minion in listed[key.ACC]:
            if minion not in connected:
                not_present.labels(minion).set(1)
        print(len(prometheus_client.generate_latest(registry)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], {int(sys.argv[2]): "publish", int(sys.argv[3]): "request"})
