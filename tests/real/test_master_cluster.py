"""A master cluster of Salt 3008: what each exporter shows of jobs and minions that the members share."""

from __future__ import annotations

import shutil
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from salt_exporter.demo.sockets import listening_ports
from tests.real.masters import Masters, Prometheus
from tests.real.namespaces import Network

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.real.conftest import SaltLine
    from tests.real.masters import Master

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(400),
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="no prometheus on the PATH"),
]

_POOL_PORT = 4520  # cluster_pool_port
_ADDRESSES = {"east": "10.79.1.1", "west": "10.79.1.2", "on-east": "10.79.1.11", "on-west": "10.79.1.12"}


class Cluster:
    """Two members with one minion each; both members accept both minions."""

    def __init__(self, east: Master, west: Master, folder: Path) -> None:
        self.east = east
        self.west = west
        self.at_east, self.at_west = (member.exporter(folder, "--jobs.deadline=30s") for member in (east, west))
        self.prometheus = Prometheus(self.at_east, east, [east, west], folder)


@pytest.fixture(scope="module")
def cluster(salt_line: SaltLine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Yield the cluster with both minions connected."""
    if salt_line.name == "3006":
        pytest.skip("Salt 3006 has no clusters")
    folder = tmp_path_factory.mktemp("cluster")
    with closing(Network("cluster-")) as network, closing(Masters(network, salt_line, _ADDRESSES)) as masters:
        east, west = (_member(masters, *names, folder) for names in (("east", "west"), ("west", "east")))
        east.lab.start_master()
        east.lab.wait("master", lambda: _POOL_PORT in listening_ports(east.lab.pid("master")), 60)
        west.lab.start_master()
        for member, minion in ((east, "on-east"), (west, "on-west")):
            member.lab.wait_master_ready()
            member.lab.start_minion(minion, {}, network.prefix(minion), member.address)
        scene = Cluster(east, west, folder)
        for exporter in (scene.at_east, scene.at_west):
            exporter.wait(lambda metrics: metrics.get("salt_keys", state="accepted") == 2, 60, "both keys")
            exporter.wait(lambda metrics: metrics.get("salt_presence_minions", state="present") == 1, 30, "its minion")
        yield scene


def _member(masters: Masters, node: str, peer: str, folder: Path) -> Master:
    """Prepare a member; Salt takes the names of its peers for their addresses."""
    options = {
        "id": _ADDRESSES[node],
        "cluster_id": "fleet",
        "cluster_peers": [_ADDRESSES[peer]],
        "cluster_pki_dir": str(folder / "pki"),
        # The member with the lowest address founds the cluster (Salt 3008, salt/channel/server.py): another one finds
        # it only if it listens by then, and has to listen itself when this time is over, or no minion is ever served.
        "cluster_join_timeout": 45,
        "timeout": 20,  # an answer may take a while; `salt` ends with the last one
    }
    (folder / "pki").mkdir(exist_ok=True)
    return masters.master(node, options)


def test_job_is_counted_where_it_was_published(cluster: Cluster) -> None:
    """Both members see job and returns of both minions on their bus; the publisher counts them, the other nothing."""
    assert {"on-east": True, "on-west": True} == cluster.west.lab.salt("*", "test.ping")

    closed = {"function": "test.ping", "outcome": "complete"}
    west = cluster.at_west.wait(lambda metrics: metrics.get("salt_jobs_closed_total", 0, **closed) == 1, 20, "closed")
    assert {("test.ping", "true"): 2, ("test.ping", "false"): 0} == west.by(
        "salt_jobs_responses_total", "function", "success"
    )
    east = cluster.at_east.wait(
        lambda metrics: metrics.get("salt_eventbus_events_total", 0, kind="job_return") == 2, 10, "it saw the returns"
    )
    assert {} == east.by("salt_jobs_new_total", "function")
    assert {} == east.by("salt_jobs_responses_total", "function")
    for metrics in (east, west):
        assert 0 == sum(metrics.by("salt_jobs_missing_responses_total", "cause").values())
        assert 0 == metrics.get("salt_jobs_bus_only_responses_total")
        assert 0 == metrics.get("salt_publish_frames_missing_total")


def test_minion_of_another_member_alerts_nobody(cluster: Cluster) -> None:
    """Each member misses the other's minion, which is as it should be; one that stops is gone from the cluster."""
    for exporter, elsewhere in ((cluster.at_east, "on-west"), (cluster.at_west, "on-east")):
        metrics = exporter.scrape()
        assert [elsewhere] == metrics.labels("salt_presence_minion_not_present", "minion")
        assert 1 == metrics.get("salt_master_cluster_info", cluster_id="fleet")
    missing = "job:salt_presence_cluster_not_present:difference"
    cluster.prometheus.wait(lambda: _values(cluster, missing) == ["0"], "nobody is missing in the cluster")

    cluster.west.lab.stop("on-west")
    cluster.prometheus.wait(lambda: {"on-west"} == cluster.prometheus.firing("SaltMinionGone", "minion"), "it is gone")
    assert ["1"] == _values(cluster, missing)
    for alert in ("SaltMinionNotPresent", "SaltMinionsNotPresent"):
        assert set() == cluster.prometheus.firing(alert, "instance")


def _values(cluster: Cluster, expression: str) -> list[str]:
    return [one["value"][1] for one in cluster.prometheus.query(expression)]
