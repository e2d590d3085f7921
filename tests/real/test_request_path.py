"""The request path: a harmless request now and then, and whoever waits for a reply, told from byte counters."""

from __future__ import annotations

import sys
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from salt_exporter.demo.cleaner import Cleaner
from salt_exporter.demo.lab import Lab
from tests.real.exporter import Exporter, Metrics
from tests.real.newest import newest_line_only
from tests.real.processes import named, stopped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import psutil

    from tests.real.conftest import SaltLine
    from tests.real.namespaces import Network

pytestmark = pytest.mark.real

_CLIENTS = 4

# As many clients with an identity like Salt's as the second argument says, each answered once; when the file named
# exists each asks once more. Their heartbeats, and the router's where it sends any, go on all the time.
_ASKING = """
import os, sys, time, msgpack, zmq
context = zmq.Context()
ping = msgpack.packb({"enc": "clear", "load": {"cmd": "ping", "padding": "x" * 500}, "version": 3})
clients = []
for number in range(int(sys.argv[2])):
    client = context.socket(zmq.REQ)
    client.setsockopt(zmq.IDENTITY, b"salt-req/minion/web1.example.com/%d/%032x" % (os.getpid(), number))
    client.setsockopt(zmq.HEARTBEAT_IVL, 2_000)
    client.connect("tcp://127.0.0.1:4506")
    clients.append(client)
def ask():
    for client in clients:
        client.send(ping)
    for client in clients:
        client.recv()
ask()
print("answered once", flush=True)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.05)
ask()
print("answered twice", flush=True)
time.sleep(600)
"""

_UNANSWERED = "salt_request_unanswered_connections"
_OLDEST = "salt_request_oldest_unanswered_seconds"
_SUCCESS = "salt_probe_success"
_STUCK = "salt_request_workers_stuck"
_COUNT = "salt_probe_duration_seconds_count"


def _workers(lab: Lab) -> list[psutil.Process]:
    found = named(lab, r"MWorker(-\S+)?")
    assert len(found) == 3
    return found


@contextmanager
def _clients(lab: Lab, network: Network, folder: Path) -> Iterator[Path]:
    """Run the clients; what is yielded is the file that makes them ask."""
    script, go = folder / "asking.py", folder / "go"
    script.write_text(_ASKING)
    lab.start("asking", [lab.programs.python, str(script), str(go), str(_CLIENTS)], network.prefix("master"))
    try:
        lab.wait("asking", lambda: lab.log("asking").read_text().endswith("answered once\n"), 20)
        yield go
    finally:
        lab.stop("asking")


def _healthy(metrics: Metrics) -> bool:
    """Tell whether both probes succeed and nobody waits; nothing is known of either right after a start."""
    return (
        metrics.get(_SUCCESS, 0, probe="request") == 1
        and metrics.get(_SUCCESS, 0, probe="publish") == 1
        and metrics.get(_UNANSWERED, 1) == 0
    )


def test_stopped_workers(exporter: Exporter, lab: Lab, network: Network, tmp_path: Path) -> None:
    """When all workers are stopped requests go unanswered and the probe fails; when they go on both recover."""
    exporter.wait(_healthy, 20, "the master answers")
    with _clients(lab, network, tmp_path) as go, stopped(_workers(lab)):
        # Not in the interval of the first answer: what is asked right behind an answer is not seen.
        time.sleep(1.5)
        asked = time.monotonic()
        go.touch()
        metrics = exporter.wait(
            lambda metrics: metrics.get(_UNANSWERED) >= _CLIENTS, 10, f"{_CLIENTS} clients wait for a reply"
        )
        # The second of waiting that counts, two samples of 0.5 s each (beside the publish channel's 0.3 s), and what
        # all of it takes where much other work is done.
        assert time.monotonic() - asked < 15
        exporter.wait(lambda metrics: metrics.get(_SUCCESS, probe="request") == 0, 10, "the request probe fails")
        # Long enough for heartbeats, which are no answers.
        metrics = exporter.wait(lambda metrics: metrics.get(_OLDEST) > 5, 20, "the oldest has waited for 5 s")
        assert metrics.get(_OLDEST) < time.monotonic() - asked
        assert metrics.get(_UNANSWERED) >= _CLIENTS
        assert metrics.get(_SUCCESS, probe="publish") == 1
        counted = metrics.get(_COUNT, probe="request")
    metrics = exporter.wait(_healthy, 15, "all are answered and the probe succeeds")
    assert metrics.get(_OLDEST) == 0
    assert metrics.get(_COUNT, probe="request") > counted


def test_some_stopped_workers(exporter: Exporter, lab: Lab) -> None:
    """Two of three workers are stuck: that is known as soon as a ping has failed; when they go on none is."""
    exporter.wait(lambda metrics: _healthy(metrics) and metrics.get(_STUCK) == 0, 20, "no worker is stuck")
    with stopped(_workers(lab)[:2]):
        exporter.wait(lambda metrics: metrics.get(_STUCK) == 2, 60, "two workers are stuck")
    exporter.wait(lambda metrics: _healthy(metrics) and metrics.get(_STUCK) == 0, 20, "no worker is stuck")


@newest_line_only("any client waits like those of test_stopped_workers")
def test_salt_command_to_stopped_workers(exporter: Exporter, lab: Lab, network: Network) -> None:
    """The request of a `salt` command that nobody takes up is one that waits."""
    exporter.wait(_healthy, 20, "the master answers")
    try:
        with stopped(_workers(lab)):
            command = [lab.programs.cli, f"--config-dir={lab.config_dir}", "web1", "test.ping"]
            lab.start("command", command, network.prefix("master"))
            exporter.wait(lambda metrics: metrics.get(_UNANSWERED) >= 1, 20, "the command waits for a reply")
        exporter.wait(_healthy, 15, "it has been answered")
    finally:
        lab.stop("command")


@newest_line_only("a ping is answered alike; test_stopped_workers begins and ends with a healthy master")
def test_healthy_master(exporter: Exporter, lab: Lab) -> None:
    """With an idle master and with jobs the probes succeed, latencies are counted, and nobody waits."""
    exporter.wait(_healthy, 20, "the master answers")
    before = exporter.scrape()
    end = time.monotonic() + 14  # several heartbeat intervals
    while time.monotonic() < end:
        lab.salt("*", "test.arg", "x" * 2000)
        metrics = exporter.scrape()
        assert metrics.get(_SUCCESS, probe="request") == 1
        assert metrics.get(_OLDEST) < 2
    exporter.wait(_healthy, 5, "nobody waits")
    after = exporter.scrape()
    pings = after.get(_COUNT, probe="request") - before.get(_COUNT, probe="request")
    assert 5 <= pings <= 40
    seconds = "salt_probe_duration_seconds_sum"
    assert 0 < (after.get(seconds, probe="request") - before.get(seconds, probe="request")) / pings < 1
    assert [] == [name for name in after.labels(_SUCCESS, "probe") if name == "event_bus"]


def test_own_connections_count_nowhere(exporter: Exporter, lab: Lab) -> None:
    """The exporter has two connections to the master, and neither its own presence nor Salt's shows them.

    That they are missing from the connections too is held by test_connections.py.
    """
    exporter.wait(_healthy, 20, "the master answers")
    lines = exporter.run_beside("ss", "-Htn", "state", "established", "src", "127.0.0.2").splitlines()
    # An IPv4-mapped IPv6 socket is listed the same way.
    assert [4505, 4506] == sorted(int(line.split()[3].rpartition(":")[2]) for line in lines)

    exporter.wait(
        lambda metrics: (
            metrics.get("salt_presence_unknown_peers", 1) == 0
            and metrics.labels("salt_presence_minion_not_present", "minion") == ["ghost"]
        ),
        20,
        "all but one are present, and nobody else",
    )
    assert ["ghost"] == lab.run("manage.not_present")


@newest_line_only("the connections are the exporter's own")
def test_exporter_that_ends(exporter: Exporter, lab: Lab) -> None:
    """Its connections end with it, and with the next start there are as many as before."""
    exporter.wait(_healthy, 20, "the master answers")
    exporter.stop()
    lines = exporter.run_beside("ss", "-Htn", "state", "established", "src", "127.0.0.2")
    lab.restart("exporter")
    lab.wait("exporter", exporter.is_ready, 30)
    assert "" == lines
    exporter.wait(_healthy, 20, "the master answers")


def _round_trip_is_known(metrics: Metrics) -> bool:
    """Tell whether one event has come back in time, and no requests are sent."""
    return (
        metrics.get(_SUCCESS, 0, probe="event_bus") == metrics.get(_COUNT, 0, probe="event_bus") == 1
        and metrics.get("salt_probe_duration_seconds_sum", probe="event_bus") < 5
        and metrics.labels(_SUCCESS, "probe") == ["event_bus", "publish"]
    )


def test_event_bus_round_trip(exporter: Exporter, lab: Lab, network: Network, tmp_path: Path) -> None:
    """With --probe.event-bus an event of the exporter's own comes back, and everybody reads it as one of kind other."""
    before = exporter.scrape().get("salt_eventbus_events_total", kind="other")
    settings = [f"--salt.config-dir={lab.config_dir}", f"--state.directory={tmp_path}", "--no-probe.request"]
    address = "127.0.0.1:4517"
    settings += ["--config.file=/dev/null", "--probe.event-bus"]
    program = [sys.executable, "-m", "salt_exporter", "serve", *settings]
    lab.start("second", [*program, f"--web.listen-address={address}"], network.prefix("master"))
    try:
        metrics = exporter.wait(
            lambda metrics: metrics.get("salt_eventbus_events_total", kind="other") > before, 30, "the event has come"
        )
        lab.wait("second", lambda: _round_trip_is_known(Metrics(exporter.get("/metrics", f"http://{address}"))), 20)
    finally:
        lab.stop("second")
    assert metrics.get("salt_exporter_eventbus_decode_errors_total") == 0


def test_tcp_transport(salt_line: SaltLine, network: Network, tmp_path: Path) -> None:
    """Over `transport: tcp` the request probe is answered, fails when all workers are stopped, and recovers."""
    node = network.prefix("web2")  # where the ports of a second master are free
    with closing(Cleaner()) as cleaner:
        lab = Lab(cleaner, salt_line.programs, options={"interface": "127.0.0.1", "transport": "tcp"}, prefix=node)
        lab.start_master()
        exporter = Exporter(lab, node, tmp_path)
        exporter.wait(lambda metrics: metrics.get(_SUCCESS, 0, probe="request") == 1, 30, "the master answers")
        with stopped(_workers(lab)):
            exporter.wait(lambda metrics: metrics.get(_SUCCESS, probe="request") == 0, 10, "the request probe fails")
            counted = exporter.scrape().get(_COUNT, probe="request")
        metrics = exporter.wait(lambda metrics: metrics.get(_SUCCESS, probe="request") == 1, 15, "it succeeds again")
        assert metrics.get(_COUNT, probe="request") > counted
        assert metrics.get("salt_connections", channel="request", state="established") == 0  # the probe's is its own
        exporter.stop()
