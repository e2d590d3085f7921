"""Queues inside the master, its processes: what stops is stopped for real, what waits is bounded by the test."""

from __future__ import annotations

import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from salt_exporter.demo.cleaner import Cleaner
from salt_exporter.demo.lab import Lab
from tests.real.exporter import Exporter
from tests.real.newest import newest_line_only
from tests.real.processes import named, stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.real.conftest import SaltLine
    from tests.real.exporter import Metrics
    from tests.real.namespaces import Network

pytestmark = pytest.mark.real

_REQUESTS = 60  # so few that the sockets to three workers hold them: beyond that they wait in the router's memory
_PADDING = 1000  # bytes with each request

# Connects as a minion does and says so; when the file named exists it sends so many pings, and waits for the answers.
_CLIENT = f"""
import os, sys, time, msgpack, zmq
socket = zmq.Context().socket(zmq.DEALER)
socket.connect("tcp://127.0.0.1:4506")
ping = msgpack.packb({{"enc": "clear", "load": {{"cmd": "ping", "padding": "x" * {_PADDING}}}, "version": 3}})
def ask(number):
    for _ in range(number):
        socket.send_multipart([b"", ping])
    for answered in range(number):
        socket.recv_multipart()
    print("answered", number, flush=True)
ask(1)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.05)
ask({_REQUESTS})
"""

# Connects to the event bus, does not read before the file named exists, then counts what it reads.
_CONSUMER = """
import os, socket, sys, time
bus = socket.socket(socket.AF_UNIX)
bus.connect(sys.argv[1])
while not os.path.exists(sys.argv[2]):
    time.sleep(0.05)
received = 0
while data := bus.recv(65536):
    received += len(data)
    print(received, flush=True)
"""

_SUBSCRIBER = Path(__file__).with_name("programs") / "subscriber.py"
_SILENCE = 4  # seconds, longer than one and a half of the master's heartbeat intervals

_SILENT = "salt_publish_silent_subscribers"
_WORKER_QUEUE = "salt_request_worker_queue_bytes"
_CONSUMERS = "salt_eventbus_consumers"
_CONSUMER_QUEUE = "salt_eventbus_consumer_queue_bytes"
_CPU = "salt_processes_cpu_seconds_total"


@contextmanager
def _client(lab: Lab, prefix: Sequence[str], folder: Path) -> Iterator[Callable[[], None]]:
    """Run a client that has been answered once; what is yielded makes it send its requests.

    At the end all of them must be answered.
    """
    name = folder.name  # a log of its own
    script, go = folder / "client.py", folder / "go"
    script.write_text(_CLIENT)
    lab.start(name, [lab.programs.python, str(script), str(go)], prefix)
    try:
        lab.wait(name, lambda: "answered 1\n" in lab.log(name).read_text(), 20)
        yield go.touch
        deadline = time.monotonic() + 30
        while f"answered {_REQUESTS}\n" not in lab.log(name).read_text():
            assert time.monotonic() < deadline, "requests are left unanswered"
            time.sleep(0.1)
    finally:
        lab.stop(name)


def test_stopped_workers(exporter: Exporter, lab: Lab, network: Network, tmp_path: Path) -> None:
    """Requests to stopped workers wait in the worker queue, and are all answered when the workers go on."""
    exporter.wait(lambda metrics: metrics.get(_WORKER_QUEUE, pool="default") == 0, 10, "the queue is empty")
    with _client(lab, network.prefix("master"), tmp_path) as send, stopped(named(lab, r"MWorker(-\S+)?")):
        send()
        exporter.wait(
            lambda metrics: metrics.get(_WORKER_QUEUE, pool="default") >= _REQUESTS * _PADDING, 10, "all wait"
        )
    exporter.wait(lambda metrics: metrics.get(_WORKER_QUEUE, pool="default") == 0, 10, "the queue is empty again")


@newest_line_only("the receive queues are the kernel's")
def test_stopped_router(exporter: Exporter, lab: Lab, network: Network, tmp_path: Path) -> None:
    """Requests to a stopped router wait in the kernel's receive queues of 4506."""
    queue = "salt_request_receive_queue_bytes"
    with _client(lab, network.prefix("master"), tmp_path) as send, stopped(named(lab, "MWorkerQueue")):
        send()
        exporter.wait(
            lambda metrics: (
                metrics.get(queue) >= _REQUESTS * _PADDING and metrics.get(_WORKER_QUEUE, pool="default") == 0
            ),
            10,
            "all wait before the router, none behind it",
        )
    exporter.wait(lambda metrics: metrics.get(queue) == 0, 10, "the receive queues are empty again")


def test_worker_pools(salt_line: SaltLine, network: Network, tmp_path: Path) -> None:
    """With `worker_pools` workers and what waits for them are told by pool: if one is stopped, nothing else waits."""
    if salt_line.name < "3008":
        pytest.skip("worker_pools came with Salt 3008")
    pools = {
        "auth": {"worker_count": 1, "commands": ["_auth"]},
        "small-jobs": {"worker_count": 2, "commands": ["ping"]},
        "default": {"worker_count": 3, "commands": ["*"]},
    }
    empty = {(pool,): 0.0 for pool in pools}
    node = network.prefix("web2")  # where the ports of a second master are free
    with closing(Cleaner()) as cleaner:
        lab = Lab(cleaner, salt_line.programs, options={"interface": "127.0.0.1", "worker_pools": pools}, prefix=node)
        lab.start_master()
        lab.wait_master_ready()
        exporter = Exporter(lab, node, tmp_path / "state")
        metrics = exporter.wait(
            lambda metrics: (
                metrics.get("salt_probe_success", 0, probe="request") == 1
                and metrics.by(_WORKER_QUEUE, "pool") == empty
            ),
            60,
            "all pools are seen, and their workers have started",
        )
        workers = {("auth",): 1.0, ("small-jobs",): 2.0, ("default",): 3.0}
        assert workers == metrics.by("salt_master_worker_threads", "pool")
        with _client(lab, node, tmp_path) as send, stopped(named(lab, r"MWorker-small-jobs-\d+")):
            send()
            exporter.wait(
                lambda metrics: (
                    (queues := metrics.by(_WORKER_QUEUE, "pool"))["small-jobs",] >= _REQUESTS * _PADDING
                    and queues == empty | {("small-jobs",): queues["small-jobs",]}
                ),
                10,
                "all wait for one pool",
            )
        exporter.wait(lambda metrics: metrics.by(_WORKER_QUEUE, "pool") == empty, 10, "the queues are empty again")
        exporter.wait(lambda metrics: _roles(metrics)["request_worker"] == sum(workers.values()), 10, "six workers")
        exporter.stop()


def test_silent_subscriber(exporter: Exporter, lab: Lab, salt_line: SaltLine, network: Network) -> None:
    """A frozen subscriber is silent once it misses heartbeats; where the master sends none (3007) nobody ever is."""
    connections = "salt_connections"
    before = exporter.wait(lambda metrics: metrics.get(_SILENT) == 0, 20, "nobody is silent")
    subscribers = before.get(connections, channel="publish", state="established")
    lab.start("subscriber", [sys.executable, str(_SUBSCRIBER), "4505", "127.5.0.1"], network.prefix("master"))
    try:
        exporter.wait(
            lambda metrics: metrics.get(connections, channel="publish", state="established") == subscribers + 1,
            20,
            "one more has subscribed",
        )
        with stopped([psutil.Process(lab.pid("subscriber"))]):
            if salt_line.name == "3007":
                time.sleep(_SILENCE)
                assert exporter.scrape().get(_SILENT) == 0
            else:
                exporter.wait(lambda metrics: metrics.get(_SILENT) == 1, 2 * _SILENCE, "it is silent")
        exporter.wait(lambda metrics: metrics.get(_SILENT) == 0, 20, "it answers again")
    finally:
        lab.stop("subscriber")


def test_consumer_that_does_not_read(
    exporter: Exporter, lab: Lab, salt_line: SaltLine, network: Network, tmp_path: Path
) -> None:
    """A consumer of the event bus that does not read is named with its growing queue, which ends when it reads."""
    name = "sleepy_consumer.py"
    script, go = tmp_path / name, tmp_path / "go"
    script.write_text(_CONSUMER)
    # The exporter, EventMonitor and BatchManager; the commands of earlier tests take a moment to go.
    before = {"3006": 1, "3007": 2, "3008": 3}[salt_line.name]
    exporter.wait(lambda metrics: metrics.get(_CONSUMERS, 0) == before, 20, f"{before} consumers")
    bus = str(lab.folder / "run/master_event_pub.ipc")
    lab.start("consumer", [lab.programs.python, str(script), bus, str(go)], network.prefix("master"))
    try:
        exporter.wait(
            lambda metrics: (
                name in (names := metrics.labels(_CONSUMER_QUEUE, "process"))
                and "unknown" not in names
                and metrics.get(_CONSUMERS, 0) == before + 1
            ),
            20,
            "the consumer is named",
        )
        lab.salt("*", "test.ping")
        metrics = exporter.wait(lambda metrics: metrics.get(_CONSUMER_QUEUE, process=name) > 500, 10, "it has a queue")
        small = metrics.get(_CONSUMER_QUEUE, process=name)
        lab.salt("*", "test.arg", "x" * 10_000)
        large = small + 6 * 10_000  # the job and five returns
        exporter.wait(
            lambda metrics: (
                metrics.get(_CONSUMER_QUEUE, process=name) >= large
                and metrics.get(_CONSUMER_QUEUE, process="salt-exporter") < 1000
            ),
            10,
            "its queue alone has grown",
        )
        go.touch()
        exporter.wait(lambda metrics: metrics.get(_CONSUMER_QUEUE, process=name) == 0, 10, "it has read all")
        lab.wait("consumer", lambda: int(lab.log("consumer").read_text().split()[-1]) >= large, 10)
    finally:
        lab.stop("consumer")
    exporter.wait(lambda metrics: name not in metrics.labels(_CONSUMER_QUEUE, "process"), 10, "it is gone")


def _expected_roles(line: str) -> dict[str, float]:
    """Return how many processes of each role a master with three workers and nothing optional has."""
    once = ["main", "event_publisher", "publisher", "request_manager", "request_router", "maintenance"]
    once += ["fileserver_update"]
    once += ["event_monitor"] if line >= "3007" else []
    once += ["batch_manager"] if line >= "3008" else []
    return dict.fromkeys(once, 1.0) | {"request_worker": 3.0}


def _roles(metrics: Metrics) -> dict[str, float]:
    return {role: number for (role,), number in metrics.by("salt_processes", "role").items() if number}


def test_every_process_has_a_role(exporter: Exporter, lab: Lab, salt_line: SaltLine) -> None:
    """The roles of all processes below the master are known, they are as many as there are, and each is described."""
    expected = _expected_roles(salt_line.name)
    metrics = exporter.wait(lambda metrics: _roles(metrics) == expected, 30, f"the roles are {expected}")
    tree = [lab.pid("master"), *(child.pid for child in psutil.Process(lab.pid("master")).children(recursive=True))]
    assert len(tree) == sum(expected.values())
    resident = sum(psutil.Process(pid).memory_info().rss for pid in tree)
    measured = sum(metrics.by("salt_processes_resident_memory_bytes", "role").values())
    assert resident == pytest.approx(measured, rel=0.1)
    assert set(expected) == {role for (role,) in metrics.by("salt_processes_open_fds", "role")}
    limit = psutil.Process(lab.pid("master")).rlimit(psutil.RLIMIT_NOFILE)[0]
    assert float(limit) == metrics.get("salt_processes_max_fds", role="main")


@newest_line_only("the processes of each line are known from test_every_process_has_a_role")
def test_killed_worker(exporter: Exporter, lab: Lab) -> None:
    """A worker that dies is missed until Salt has started another; the CPU seconds of its role never go back."""
    lab.salt("*", "test.ping")  # without CPU seconds of its own the victim's would not be missed
    victim = named(lab, r"MWorker(-\S+)?")[0]
    seen = [exporter.scrape().get(_CPU, role="request_worker")]

    def has(metrics: Metrics, workers: int) -> bool:
        seen.append(metrics.get(_CPU, role="request_worker"))
        return metrics.get("salt_processes", role="request_worker") == workers

    # Their parent is stopped meanwhile, or it might start another before anybody looks.
    with stopped([psutil.Process(victim.ppid())]):
        victim.kill()
        exporter.wait(lambda metrics: has(metrics, 2), 20, "there are two workers")
    exporter.wait(lambda metrics: has(metrics, 3), 40, "there are three workers again")
    assert sorted(seen) == seen
    assert seen[-1] > seen[0]


def test_without_titles_and_unix_sockets(
    salt_line: SaltLine, network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without setproctitle sockets and the tree tell the roles; with `ipc_mode: tcp` consumers are found by TCP."""
    (tmp_path / "setproctitle.py").write_text("raise ImportError")
    node = network.prefix("web2")  # where the ports of a second master are free
    with closing(Cleaner()) as cleaner:
        lab = Lab(cleaner, salt_line.programs, options={"interface": "127.0.0.1", "ipc_mode": "tcp"}, prefix=node)
        with monkeypatch.context() as context:
            context.setenv("PYTHONPATH", str(tmp_path))
            lab.start_master()
        exporter = Exporter(lab, node, tmp_path / "state")
        expected = {"main": 1, "event_publisher": 1, "publisher": 1, "request_manager": 1, "request_router": 1}
        expected |= {"request_worker": 3, "other": len(_expected_roles(salt_line.name)) - 6}
        consumers = {"salt-exporter"}, {"salt-exporter", "salt-master"}
        metrics = exporter.wait(
            lambda metrics: (
                _roles(metrics) == expected
                and metrics.get(_CONSUMERS, 0) >= 1
                and set(metrics.labels(_CONSUMER_QUEUE, "process")) in consumers
            ),
            40,
            f"the roles are {expected}, and the consumers are named",
        )
        assert [] == metrics.labels(_WORKER_QUEUE, "pool")
        exporter.stop()
