"""Faults that befall the exporter's own host: each told clearly, outlived, and nothing that was counted is lost."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from salt_exporter.master.titles import EVENT_PUBLISHER, role_of
from tests.real.faults import DEADLINE, LOST, MINIONS, is_well, scene
from tests.real.fetch import FetchError
from tests.real.jobcache import have_returned
from tests.real.newest import newest_salt
from tests.real.processes import stopped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.real.faults import Scene
    from tests.real.namespaces import Network

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

_PROGRAMS = Path(__file__).with_name("programs")
_TMPFS = 16 << 20  # bytes: several times what the journal and its write-ahead log may take
_MANY_KEYS = 100_000
_CLIENTS = 10_000
# Connects as often as its argument says, again and again, for the exporter lets go of who says nothing.
_CONNECT = """
import socket, sys, time
while True:
    clients = [socket.create_connection(("127.0.0.1", 4507), timeout=20) for _ in range(int(sys.argv[1]))]
    time.sleep(2)
"""
_REFUSING = "refusing HTTP connections (Too many open files): raise the limit"


@pytest.fixture(scope="module", name="place")
def _place(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Yield a scene whose exporter keeps its state on a small file system of its own."""
    programs = newest_salt()
    state = tmp_path_factory.mktemp("state")
    options = f"size={_TMPFS},mode=700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "salt-exporter-test", state], check=True)
    try:
        with scene(programs, network, "host", state) as found:
            yield found
    finally:
        subprocess.run(["umount", "--lazy", state], check=True)


@contextmanager
def _limited(process: psutil.Process, resource: int, soft: int) -> Iterator[None]:
    """Lower a limit of a running process during the block."""
    before = process.rlimit(resource)
    process.rlimit(resource, (soft, before[1]))
    try:
        yield
    finally:
        process.rlimit(resource, before)


def test_four_servers_scrape_each_second(place: Scene) -> None:
    """Four Prometheus servers that scrape each second all get every page, while jobs go on."""
    program = [sys.executable, str(_PROGRAMS / "scraper.py"), "4507", "4", "1"]
    with place.nothing_lost():
        place.lab.start("servers", program, place.prefix)
        jids = [place.job("m*", "test.ping") for _ in range(5)]
        time.sleep(8)
        place.lab.stop("servers")
        place.assert_counted(jids)
    lines = place.lab.log("servers").read_text().splitlines()
    assert [] == [line for line in lines if not line.endswith(" 200")]
    assert len(lines) >= 20


def test_no_descriptor_left(place: Scene) -> None:
    """Out of file descriptors it refuses scrapes and says so once, goes on reading the bus, and recovers by itself."""
    with place.nothing_lost(), place.said() as said:
        highest = max(int(path.name) for path in Path(f"/proc/{place.process.pid}/fd").iterdir())
        with _limited(place.process, psutil.RLIMIT_NOFILE, highest + 1):
            jids = [place.job("m*", "test.ping") for _ in range(3)]
            # More than it has numbers for below the limit.
            place.lab.start("clients", [sys.executable, "-c", _CONNECT, str(highest)], place.prefix)
            place.lab.wait("clients", lambda: place.tells(_REFUSING), 20)
            time.sleep(2)
            place.lab.stop("clients")
        place.lab.wait("exporter", place.exporter.is_ready, 60)
        place.assert_counted(jids)
    assert 1 <= sum(_REFUSING in line for line in said) <= 3  # whenever it had been able to accept in between
    messages = Counter(re.search(r"component=.*", line)[0] for line in said)  # type: ignore[index] # each has one
    assert messages.most_common(1)[0][1] <= 3, messages.most_common(5)


def test_connecting_needs_descriptors(place: Scene) -> None:
    """A master that is restarted while no descriptor is left does not end it: libzmq is not let near."""
    with place.nothing_lost():
        with _limited(place.process, psutil.RLIMIT_NOFILE, 8):
            place.lab.restart("master")
            time.sleep(6)
        place.lab.wait_master_ready()
        place.lab.wait_minions(MINIONS)
        place.start_caller()
        place.wait_well()
        place.assert_counted([place.job("m*", "test.ping")])


def test_no_memory_left(place: Scene) -> None:
    """Where memory is refused, what needs it fails and says so; nothing ends silently, and all of it goes on later."""
    threads = place.process.num_threads()
    with place.nothing_lost(), place.said() as said:
        with _limited(place.process, psutil.RLIMIT_AS, place.process.memory_info().vms):
            for _ in range(10):
                place.job("m*", "test.arg", "x" * 200_000)
            time.sleep(3)
        place.wait_well()
        place.assert_counted([place.job("m*", "test.ping")])
        assert place.process.num_threads() >= threads - 3
    print(said)  # noqa: T201 - for whoever looks


def test_suspended(place: Scene) -> None:
    """After it was suspended for longer than the deadline of jobs, nothing that has returned meanwhile is missing."""
    with place.nothing_lost():
        place.wait_closed([])  # what the test before has left
        lost = place.lost()
        place.process.suspend()
        try:
            jids = [place.job("m*", LOST, 6) for _ in range(5)]
            time.sleep(DEADLINE + 2)
            place.lab.wait("master", lambda: all(have_returned(place.lab, jid, MINIONS) for jid in jids), 60)
        finally:
            place.process.resume()
        place.assert_counted(jids)
        assert lost == place.lost()


def test_bus_stalled(place: Scene) -> None:
    """While the event publisher hangs, scrapes are answered; what it held back is counted when it goes on."""
    publisher = [process for process in place.lab.processes("master") if role_of(process.cmdline()) == EVENT_PUBLISHER]
    assert 1 == len(publisher)
    with place.nothing_lost():
        place.job("m*", "test.ping")
        with stopped(publisher):
            metrics = place.exporter.scrape()
            assert 1 == metrics.get("salt_exporter_eventbus_connected")
            time.sleep(3)
            assert is_well(place.exporter.scrape())
        place.assert_counted([place.job("m*", "test.ping")])


def test_reconnect_storm(place: Scene) -> None:
    """10,000 clients connect and leave at once: all that the accept queue has room for are counted, both ways."""
    program = [sys.executable, str(_PROGRAMS / "reconnect_storm.py"), "4505", str(_CLIENTS), "3"]
    opened, closed = "salt_connections_opened_total", "salt_connections_closed_total"
    with place.nothing_lost():
        before = place.exporter.scrape()
        place.lab.start("storm", program, place.prefix)
        place.lab.wait("storm", lambda: "connected" in place.lab.log("storm").read_text(), 60)
        place.exporter.wait(
            lambda metrics: (
                metrics.get(opened, channel="publish") - before.get(opened, channel="publish") >= 0.8 * _CLIENTS
                and metrics.get(closed, channel="publish") - before.get(closed, channel="publish") >= 0.8 * _CLIENTS
            ),
            60,
            "all have come and gone",
        )


def test_job_cache_replaced(place: Scene) -> None:
    """Without its job cache it says so, and goes on by the event bus alone; a new cache is used at once."""
    cache = place.lab.folder / "cache" / "jobs"
    aside = cache.with_name("jobs-aside")
    with place.nothing_lost(), place.said() as said:
        cache.rename(aside)
        cache.touch()  # Salt cannot make it anew
        try:
            place.exporter.wait(lambda metrics: metrics.get("salt_jobs_cache_readable") == 0, 20, "unreadable")
        finally:
            cache.unlink()
            aside.rename(cache)
        place.exporter.wait(lambda metrics: metrics.get("salt_jobs_cache_readable") == 1, 20, "readable")
        place.assert_counted([place.job("m*", "test.ping")])
    assert 1 == sum("returns are not compared with the job cache: cannot read" in line for line in said), said


def _persistent(place: Scene, persistent: bool) -> None:  # noqa: FBT001 - the state to wait for
    place.exporter.wait(
        lambda metrics: metrics.get("salt_exporter_journal_persistent") == persistent,
        40,
        f"the journal's persistence is {persistent}",
    )


def test_state_directory_full(place: Scene) -> None:
    """A loss that cannot be written is kept, the metrics and the log say so, and it is written when there is room."""
    filler = place.state / "filler"
    with place.nothing_lost():
        with place.said() as said:
            # The write-ahead log would have room for much in what it takes up already.
            with closing(sqlite3.connect(place.state / "journal.sqlite", timeout=20)) as journal:
                journal.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            with pytest.raises(OSError, match="No space left"):
                filler.write_bytes(bytes(_TMPFS))
            jids = [place.lose() for _ in range(2)]
            _persistent(place, persistent=False)
        assert 1 == sum("cannot write the loss journal" in line and "full" in line for line in said), said
        filler.unlink()
        _persistent(place, persistent=True)
        place.wait_told(*jids)


def test_state_directory_read_only(place: Scene) -> None:
    """Started with a state directory that is read-only it says so, and keeps the journal in memory."""
    remount = "mount", "-o"
    place.exporter.stop()
    subprocess.run([*remount, "remount,ro", place.state], check=True)
    try:
        with place.other_exporter():
            assert 0 == place.wait_well().get("salt_exporter_journal_persistent")
            place.wait_told(place.lose())
            assert "it is kept in memory only" in place.lab.log("exporter").read_text()
            place.exporter.stop()
            subprocess.run([*remount, "remount,rw", place.state], check=True)
    finally:
        subprocess.run([*remount, "remount,rw", place.state], check=True)
    _persistent(place, persistent=True)


def test_journal_damaged_while_running(place: Scene) -> None:
    """A file that somebody has overwritten is put aside once it is asked, and a new one holds what comes."""
    with place.nothing_lost():
        with place.said() as said:
            for path in place.state.glob("journal.sqlite*"):
                if path.suffix != ".sqlite-shm":
                    with path.open("r+b") as file:
                        file.write(os.urandom(path.stat().st_size))
            with pytest.raises(FetchError):
                place.losses()
            place.lab.wait("exporter", (place.state / "journal.sqlite.aside").exists, 20)
            jid = place.lose()
            place.wait_told(jid)
        assert any("renamed to journal.sqlite.aside" in line for line in said), said


def test_many_keys(place: Scene) -> None:
    """100,000 accepted keys are all counted, with bounded series and memory; when they go all is as before."""
    keys = place.lab.folder / "pki" / "minions"
    with place.nothing_lost():
        for number in range(_MANY_KEYS):
            (keys / f"many{number}").touch()
        try:
            metrics = place.exporter.wait(
                lambda metrics: metrics.get("salt_presence_minions", state="not_present") == _MANY_KEYS + 1, 40, "all"
            )
            assert _MANY_KEYS + 1 + len(MINIONS) == metrics.get("salt_keys", state="accepted")
            assert 1000 == len(metrics.labels("salt_presence_minion_not_present", "minion"))
            assert _MANY_KEYS + 1 - 1000 == metrics.get("salt_presence_not_present_series_omitted")
            assert is_well(metrics)
            assert metrics.get("process_resident_memory_bytes") < 200 << 20
        finally:
            for number in range(_MANY_KEYS):
                (keys / f"many{number}").unlink()
        place.exporter.wait(lambda metrics: metrics.get("salt_keys", state="accepted") == 3, 20, "as before")


def test_netlink_refused(place: Scene) -> None:
    """Without leave to use AF_NETLINK what needs sockets fails in one sentence, and keys, bus and jobs go on."""
    prefix = [*place.prefix, sys.executable, str(_PROGRAMS / "without_netlink.py")]
    with place.said() as said, place.other_exporter(prefix):
        jids = [place.job("m*", "test.ping")]
        metrics = place.wait_closed(jids)
        collectors = metrics.by("salt_exporter_collector_success", "collector")
        works = {name for (name,), success in collectors.items() if success}
        assert {"keys", "jobs", "eventbus", "settings", "workers", "probe", "exporter"} <= works
        assert not works & {"connections", "presence"}
        place.assert_counted(jids)
    assert any("leave to use AF_NETLINK" in line for line in said), said
    assert [] == [line for line in said if "Traceback" in line]


def test_another_network_namespace(place: Scene, network: Network) -> None:
    """In another network namespace than the master nobody is called absent: the sentence says what to do."""
    network.add("elsewhere")
    with place.said() as said, place.other_exporter(network.prefix("elsewhere")):
        page = place.exporter.get("/metrics")
        assert "salt_presence_minions{" not in page
        assert "salt_master_up " not in page
        assert "salt_jobs_in_flight 0.0" in page
        for command in ("minions", "check"):
            assert "not present" not in place.exporter.command(command)
    assert any("in another network namespace" in line for line in said), said
