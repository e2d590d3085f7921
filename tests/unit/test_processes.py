"""The master's processes: roles with and without titles, readable names, CPU seconds that never go back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import psutil
import pytest

from salt_exporter.analysis.consumers import ConsumerNames
from salt_exporter.analysis.cpu import CpuByRole
from salt_exporter.collectors import processes as collector_module
from salt_exporter.collectors.processes import ProcessesCollector
from salt_exporter.errors import SourceError
from salt_exporter.kernel.descriptors import HeldSockets
from salt_exporter.master.bus import BusAddress
from salt_exporter.master.consumers import Consumer, Queue, over_tcp
from salt_exporter.master.processes import OpenFiles, Process, master_processes, roles
from salt_exporter.master.titles import EVENT_PUBLISHER, PUBLISHER, REQUEST_ROUTER, ROLES, name_of, role_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from salt_exporter.master.process import MasterProcess
    from salt_exporter.world import World

_MASTER = "/opt/saltstack/salt/bin/python3.10 /usr/bin/salt-master -c /etc/salt"

# Seen on masters with a reactor, an engine, an event returner and `con_cache`: what follows _MASTER, and the role.
# Lines that begin with "=" are the whole title.
_ALL_LINES = {
    "MainProcess": "main",
    "PubServerChannel._publish_daemon": "publisher",
    "Engine(salt.loaded.int.engines.test)": "engine",
    "Engine(salt.loaded.int.engines.reactor) Reactor-5:1": "reactor",
    "Maintenance": "maintenance",
    "EventReturn": "event_return",
    "ConnectedCache": "connected_cache",
    "FileserverUpdate": "fileserver_update",
    "ProcessFunc(manage.up, fun=runner.manage.up jid=20261122220000000000)": "job",
    "Maintenance Schedule(name=hourly, jid=20261122220000000000)": "job",
}
_3006_3007 = {
    "ReqServer ReqServer_ProcessManager": "request_manager",
    "ReqServer MWorkerQueue": "request_router",
    "ReqServer MWorker-0": "request_worker",
    "ReqServer MWorker-11": "request_worker",
    # after a restart
    "ReqServer ReqServer_ProcessManager MWorker": "request_worker",
    "ReqServer ReqServer_ProcessManager RequestServer.zmq_device": "request_router",
}
_TITLES = {
    "3006": _ALL_LINES | _3006_3007 | {"EventPublisher": "event_publisher"},
    "3007": _ALL_LINES
    | _3006_3007
    | {"EventMonitor": "event_monitor", "=EventPublisher": "event_publisher", "=EventPublisher   ": "event_publisher"},
    "3008": _ALL_LINES
    | {
        "EventMonitor": "event_monitor",
        "BatchManager": "batch_manager",
        "=EventPublisher": "event_publisher",
        "RequestServer ReqServer_ProcessManager": "request_manager",
        "RequestServer MWorkerQueue": "request_router",
        "RequestServer PoolRouter": "request_router",
        "RequestServer MWorker-default-0": "request_worker",
        "RequestServer MWorker-state-apply-2": "request_worker",
        "RequestServer ReqServer_ProcessManager MWorker": "request_worker",
        "RequestServer ReqServer_ProcessManager RequestServer.zmq_device_pooled": "request_router",
    },
}


def _words(title: str) -> list[str]:
    return (title[1:] if title.startswith("=") else f"{_MASTER} {title}").split(" ")


@pytest.mark.parametrize("line", _TITLES)
def test_roles_by_title(line: str) -> None:
    """Every title that a master of the line gives its processes, at first or after a restart, tells the role."""
    assert _TITLES[line] == {title: role_of(_words(title)) for title in _TITLES[line]}


@pytest.mark.parametrize(
    "words",
    [
        [],
        _MASTER.split(),
        [*_MASTER.split(), "Process-7"],
        ["git", "fetch", "origin"],
        [*_MASTER.split()[:-1], "/srv/Maintenance"],
        [*_MASTER.split(), "SSDPDiscoveryServer"],
    ],
)
def test_no_title(words: Sequence[str]) -> None:
    """A command line that is no title of Salt's tells no role."""
    assert "other" == role_of(words)


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (f"{_MASTER} RequestServer MWorker-default-0", "MWorker-default"),
        (f"{_MASTER} ReqServer MWorker-11", "MWorker"),
        (f"{_MASTER} EventReturn", "EventReturn"),
        (f"{_MASTER} Engine(salt.loaded.int.engines.reactor) Reactor-4:1", "Reactor"),
        (f"{_MASTER} Engine(salt.loaded.ext.engines.logstash)", "Engine(logstash)"),
        (f"{_MASTER} ProcessFunc(state.orchestrate, fun=runner.state.orchestrate jid=2026)", "ProcessFunc"),
        (f"{_MASTER} PubServerChannel._publish_daemon", "PubServerChannel._publish_daemon"),
        (_MASTER, "salt-master"),
        ("EventPublisher   ", "EventPublisher"),
        ("/usr/bin/python3 /usr/bin/salt * test.ping", "salt"),
        ("/usr/bin/python3 /usr/bin/salt-api RunNetapi(salt.loaded.int.netapi.rest_cherrypy)", "salt-api"),
        ("/usr/bin/python3 -u /srv/tools/watch_events.py --all", "watch_events.py"),
        ("python3 -m tools.events", "tools.events"),
        ("python3 -c while True: pass", "python3"),
        ("python3", "python3"),
        ("/usr/sbin/syslog-ng -F", "syslog-ng"),
        ("nginx: worker process", "nginx"),
        ("", ""),
    ],
)
def test_readable_names(command: str, name: str) -> None:
    """A process is called by the last name of its Salt title without number and arguments, else by its program."""
    assert name == name_of(command.split(" "))


def _process(pid: int, parent: int, title: str = "", sockets: Iterable[int] | None = (), cpu: float = 0.0) -> Process:
    files = None if sockets is None else OpenFiles(10, 1000.0, frozenset(sockets))
    return Process(pid, parent, 100.0 + pid, tuple(_words(title)), cpu, 1 << 20, files)


_BUS, _PUBLISH, _REQUEST = 11, 12, 13
_LISTENING = {_BUS: EVENT_PUBLISHER, _PUBLISH: PUBLISHER, _REQUEST: REQUEST_ROUTER}


def test_sockets_decide_before_titles() -> None:
    """Whoever alone owns a listening socket has its role, whatever the title says."""
    found = roles([_process(1, 0), _process(2, 1, "Maintenance", [_PUBLISH])], 1, _LISTENING)
    assert {1: "main", 2: "publisher"} == found


def test_inherited_sockets_do_not_decide() -> None:
    """With the tcp transport manager, router and workers all hold the socket of 4506: their titles decide."""
    family = [
        _process(1, 0, "MainProcess"),
        _process(2, 1, "RequestServer ReqServer_ProcessManager", [_REQUEST]),
        _process(3, 2, "RequestServer PoolRouter", [_REQUEST]),
        _process(4, 2, "RequestServer MWorker-default-0", [_REQUEST]),
    ]
    expected = {1: "main", 2: "request_manager", 3: "request_router", 4: "request_worker"}
    assert expected == roles(family, 1, _LISTENING)


def test_without_titles() -> None:
    """Without setproctitle sockets and the tree tell the roles; what nothing tells apart is other."""
    family = [
        _process(1, 0),
        _process(2, 1, sockets=[_BUS]),
        _process(3, 1, sockets=[_PUBLISH]),
        _process(4, 1),  # Maintenance
        _process(5, 1),
        _process(6, 5, sockets=[_REQUEST]),
        _process(7, 5),
        _process(8, 5),
        _process(9, 8),
    ]
    names = {1: "main", 2: "event_publisher", 3: "publisher", 4: "other", 5: "request_manager", 6: "request_router"}
    assert names | {7: "request_worker", 8: "request_worker", 9: "job"} == roles(family, 1, _LISTENING)


def test_without_titles_over_tcp() -> None:
    """Without setproctitle and with the tcp transport the workers are the children of those that share 4506."""
    family = [
        _process(1, 0),
        _process(2, 1, sockets=[_REQUEST]),
        _process(3, 2, sockets=[_REQUEST]),
        _process(4, 2, sockets=[_REQUEST]),
        _process(5, 1),
    ]
    expected = {1: "main", 2: "request_manager", 3: "request_worker", 4: "request_worker", 5: "other"}
    assert expected == roles(family, 1, _LISTENING)


def test_without_rights() -> None:
    """Where descriptors may not be looked at, titles tell the roles all the same."""
    family = [
        _process(1, 0, "MainProcess", None),
        _process(2, 1, "=EventPublisher", None),
        _process(3, 1, "PubServerChannel._publish_daemon", None),
        _process(4, 1, "ReqServer MWorkerQueue", None),
    ]
    expected = {1: "main", 2: "event_publisher", 3: "publisher", 4: "request_router"}
    assert expected == roles(family, 1, _LISTENING)


def test_without_rights_and_titles() -> None:
    """With neither, only the oldest process is known for what it is."""
    family = [_process(1, 0, sockets=None), _process(2, 1, sockets=None), _process(3, 2, sockets=None)]
    assert {1: "main", 2: "other", 3: "other"} == roles(family, 1, _LISTENING)


def test_cpu_counts_from_the_first_look() -> None:
    """What processes had used before the exporter came is not counted, what they use afterwards is."""
    cpu = CpuByRole()
    cpu.observe([(_process(1, 0, cpu=50.0), "main")])
    assert 0.0 == cpu.seconds["main"]
    cpu.observe([(_process(1, 0, cpu=50.5), "main")])
    assert 0.5 == cpu.seconds["main"]


def test_cpu_survives_processes() -> None:
    """The counter of a role keeps what a dead process used and counts its successor from its start."""
    cpu = CpuByRole()
    cpu.observe([(_process(2, 1, cpu=10.0), "request_worker"), (_process(3, 1, cpu=20.0), "request_worker")])
    cpu.observe([(_process(2, 1, cpu=12.0), "request_worker"), (_process(3, 1, cpu=20.0), "request_worker")])
    cpu.observe([(_process(3, 1, cpu=20.0), "request_worker")])
    assert 2.0 == cpu.seconds["request_worker"]
    cpu.observe([(_process(3, 1, cpu=20.0), "request_worker"), (_process(9, 1, cpu=0.25), "request_worker")])
    assert 2.25 == cpu.seconds["request_worker"]


def test_cpu_of_a_reused_process_id() -> None:
    """A process id that is used again is another process: it counts from its own start."""
    cpu = CpuByRole()
    first = _process(2, 1, cpu=10.0)
    cpu.observe([(first, "request_worker")])
    cpu.observe([(Process(2, 1, first.started + 5, first.words, 0.5, 0, None), "request_worker")])
    assert 0.5 == cpu.seconds["request_worker"]


def test_cpu_follows_a_changed_role() -> None:
    """A process that gets its title only after its first CPU time counts for the role it has at the moment."""
    cpu = CpuByRole()
    cpu.observe([])
    cpu.observe([(_process(2, 1, cpu=1.0), "other")])
    cpu.observe([(_process(2, 1, cpu=3.0), "request_worker")])
    assert {"other": 1.0, "request_worker": 2.0} == cpu.seconds


def _running(process: psutil.Process) -> MasterProcess:
    return cast("MasterProcess", SimpleNamespace(pid=process.pid, started=process.create_time()))


def test_a_process_as_it_is() -> None:
    """A process of this machine is described as psutil describes it, its children after it."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        found = {process.pid: process for process in master_processes(_running(psutil.Process()), set(), HeldSockets())}
        ours, theirs = found[os.getpid()], found[child.pid]
        child.communicate(b"\n")
    assert os.getpid() == theirs.parent
    assert ours.files is not None
    assert float(psutil.Process().rlimit(psutil.RLIMIT_NOFILE)[0]) == ours.files.limit
    assert 0 < ours.files.count < 1000
    assert (sys.executable, "-c", "input()") == theirs.words
    assert 0 < theirs.resident_bytes < ours.resident_bytes


def test_a_process_that_is_gone() -> None:
    """A master that has ended, or whose process id belongs to another now, is a SourceError."""
    main = cast("MasterProcess", SimpleNamespace(pid=os.getpid(), started=psutil.Process().create_time() - 60))
    with pytest.raises(SourceError, match="has ended"):
        master_processes(main, set(), HeldSockets())


def _collector(monkeypatch: pytest.MonkeyPatch, family: list[Process]) -> ProcessesCollector:
    """Return a collector whose world is a master with these processes, which owns no listening socket."""
    monkeypatch.setattr(collector_module, "master_processes", lambda *_: family)
    monkeypatch.setattr(collector_module, "unix_sockets", list)
    settings = SimpleNamespace(
        process=SimpleNamespace(pid=1), bus=BusAddress(path=Path("/bus")), config_dir="/etc/salt"
    )
    world = SimpleNamespace(
        settings=SimpleNamespace(current=lambda: settings),
        sampler=SimpleNamespace(snapshot=lambda: SimpleNamespace(listeners={"publish": [], "request": []})),
    )
    return ProcessesCollector(cast("World", world))


def _values(collector: ProcessesCollector, metric: str) -> dict[str, object]:
    return {sample.labels[0]: sample.value for sample in collector.collect() if sample.metric.name == metric}


def test_every_role_has_a_series(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every role is reported, also with 0 processes, so that an alert sees the last one of a role go."""
    family = [
        _process(1, 0, "MainProcess"),
        _process(2, 1, "ReqServer MWorker-0"),
        _process(3, 1, "ReqServer MWorker-1"),
    ]
    values = _values(_collector(monkeypatch, family), "salt_processes")
    assert dict.fromkeys(ROLES, 0.0) | {"main": 1.0, "request_worker": 2.0} == values


def test_open_files_of_the_process_closest_to_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a role the process that is closest to its own limit is shown; of a role nobody may look at, nothing."""
    title = _words("ReqServer MWorker-0")
    family = [
        _process(1, 0, "MainProcess", None),
        Process(2, 1, 1.0, tuple(title), 0.0, 0, OpenFiles(500, 100_000.0, frozenset())),
        Process(3, 1, 1.0, tuple(title), 0.0, 0, OpenFiles(90, 100.0, frozenset())),
        Process(4, 1, 1.0, tuple(title), 0.0, 0, OpenFiles(7000, float("inf"), frozenset())),
    ]
    collector = _collector(monkeypatch, family)
    assert {"request_worker": 90.0} == _values(collector, "salt_processes_open_fds")
    assert {"request_worker": 100.0} == _values(collector, "salt_processes_max_fds")


def test_names_are_bounded() -> None:
    """After so many names, consumers are `other`; the names seen first stay, and of each the longest queue shows."""
    names = ConsumerNames(max_names=2)
    assert {"a": 7, "b": 5} == names.largest([Consumer("a", 3), Consumer("b", 5), Consumer("a", 7)])
    assert {"other": 9, "a": 1} == names.largest([Consumer("c", 9), Consumer("d", 2), Consumer("a", 1)])


def test_tcp_consumers() -> None:
    """Over TCP a consumer's queue is what the master's kernel has not delivered and the consumer has not read."""
    server = (1, 0, 0, 4510, 5001, b"\x7f\0\0\1", 1, 0, 400, 21, *[0] * 6)
    client = (1, 0, 0, 5001, 4510, b"\x7f\0\0\1", 2, 30, 0, 22, *[0] * 6)
    stranger = (1, 0, 0, 5002, 4510, b"\x7f\0\0\1", 3, 99, 0, 23, *[0] * 6)
    assert [Queue(22, 430)] == list(over_tcp([server], [client, stranger]))
