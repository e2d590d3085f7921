"""The world: sources and analyses together, on files and sockets that a test has made."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import msgpack
import psutil
import pytest

from salt_exporter import rollcall
from salt_exporter import world as world_module
from salt_exporter.analysis.presence import NOT_PRESENT, PRESENT, UNCERTAIN, Evidence
from salt_exporter.config import Config
from salt_exporter.errors import SourceError
from salt_exporter.kernel.inet_diag import ESTABLISHED, Connection
from salt_exporter.kernel.sock_diag import SocketTable
from salt_exporter.master import settings
from salt_exporter.master.events import Event, JobNew
from salt_exporter.rollcall import silent_after
from salt_exporter.sampler import publish_peers
from salt_exporter.world import World
from tests.unit.salts import RAW
from tests.unit.tools import public_folder, unprivileged, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from salt_exporter.analysis.presence import Peers
    from salt_exporter.sampler import Snapshot

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can take rights from itself")
Interface = namedtuple("Interface", "family address")  # as psutil tells them  # noqa: PYI024


class Master:
    """The files of a master, what its Salt says, and who is connected."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.version = "3008.3"
        self.raw: dict[str, Any] = RAW | {"pki_dir": str(folder / "pki"), "cachedir": str(folder / "cache")}
        self.raw |= {"sock_dir": str(folder), "publish_port": 14505, "ret_port": 14506}
        self.broken = ""
        self.connections: list[Connection] = []
        (folder / "pki/minions").mkdir(parents=True)
        (folder / "etc").mkdir()
        self.configure("")

    def configure(self, text: str) -> None:
        """Write the configuration anew."""
        temporary = self.folder / "etc/.master"
        temporary.write_text(text)
        temporary.rename(self.folder / "etc/master")

    def ask(self, _python: Path, config_dir: Path, _names: Sequence[str], _master: object = None) -> dict[str, Any]:
        """Answer as its Salt."""
        if self.broken:
            raise SourceError(self.broken)
        return {"version": self.version, "files": [f"{config_dir}/master"], "patterns": [], "options": self.raw}

    def accept(self, minion: str, *ipv4: str, layout: str = "grains/{}.p") -> None:
        """Accept a minion's key; if it has addresses, cache its grains."""
        (self.folder / "pki/minions" / minion).touch()
        if ipv4:
            file = self.folder / "cache" / layout.format(minion)
            file.parent.mkdir(parents=True, exist_ok=True)
            grains = {"ipv4": ipv4}
            file.write_bytes(msgpack.packb({"grains": grains} if layout.startswith("minions") else grains))

    def connect(self, address: str, last_received_ms: int = 0) -> None:
        """Let somebody connect to the publish port."""
        row = Connection._make([0] * len(Connection._fields))
        self.connections.append(
            row._replace(
                state=ESTABLISHED,
                local_port=socket.htons(14505),
                peer=socket.inet_aton(address),
                cookie=len(self.connections) + 1,
                last_received_ms=last_received_ms,
            )
        )

    def sockets(self, ports: tuple[int, int]) -> SocketTable:
        """Answer as the kernel."""
        assert (14505, 14506) == ports
        return SocketTable(list(self.connections), [], interrupted=False)


@pytest.fixture
def master(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Master:
    """Return a master without minions, whose host has the address 10.0.0.5."""
    master = Master(tmp_path)
    monkeypatch.setattr(settings, "running_masters", list)
    monkeypatch.setattr(settings, "ask", master.ask)
    monkeypatch.setattr(world_module, "tcp_sockets", master.sockets)
    interfaces = {
        "lo": [Interface(socket.AF_INET, "127.0.0.1"), Interface(socket.AF_INET6, "::1")],
        "eth0": [Interface(socket.AF_INET, "10.0.0.5"), Interface(psutil.AF_LINK, "02:00:00:00:00:01")],
        "eth1": [Interface(socket.AF_INET6, "fe80::5%eth1")],
    }
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: interfaces)
    return master


def make_world(master: Master, **values: object) -> World:
    """Return a world around a master that nobody probes."""
    off = {item.name: False for item in fields(Config) if item.name in ("probe_publish", "probe_request")}
    places = {"salt_config_dir": master.folder / "etc", "state_directory": master.folder / "state"}
    return World(Config(**off | places | {"sampler_interval": 1e-9} | values))  # type: ignore[arg-type]


@pytest.fixture
def world(master: Master) -> World:
    """Return a world that watches nothing by itself."""
    return make_world(master)


def states(world: World) -> dict[str, str]:
    """Return the state of every minion."""
    return {minion: verdict.state for minion, verdict in world.presence().verdicts.items()}


@pytest.mark.parametrize(
    ("version", "layout"),
    [("3006.28", "minions/{}/data.p"), ("3007.15", "minions/{}/data.p"), ("3008.3", "grains/{}.p")],
)
def test_presence_from_keys_grains_and_sockets(master: Master, world: World, version: str, layout: str) -> None:
    """A minion with an accepted key is present if somebody is connected from an address in its cached grains."""
    master.version = version
    for number in (1, 2):
        master.accept(f"web{number}", f"10.0.0.{number}", layout=layout)
    master.accept("ghost")
    master.connect("10.0.0.1")

    assert {"web1": PRESENT, "web2": NOT_PRESENT, "ghost": NOT_PRESENT} == states(world)
    assert Evidence.NO_ADDRESS is world.presence().verdicts["ghost"].evidence
    assert world.newest_presence is not None


def test_presence_is_decided_once_for_each_snapshot(master: Master) -> None:
    """Until the next snapshot everybody is told the same; keys and grains that change are seen at once."""
    world = make_world(master, sampler_interval=3600.0)
    master.accept("web1", "10.0.0.1")
    master.connect("10.0.0.2")
    first = world.presence()
    assert first is world.presence()

    master.accept("web2")
    assert {"web1": NOT_PRESENT, "web2": NOT_PRESENT} == states(world)
    master.accept("web2", "10.0.0.2")
    world.refresh()
    assert {"web1": NOT_PRESENT, "web2": PRESENT} == states(world)


def test_nobody_waits_while_presence_is_decided(master: Master, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was decided last is good enough meanwhile, unless that is long ago."""
    master.accept("web1", "10.0.0.1")
    before = world.presence()
    decides, go_on = threading.Event(), threading.Event()

    def slow_peers(snapshot: Snapshot, silent_after: float | None) -> Peers:
        decides.set()
        assert go_on.wait(60)
        return publish_peers(snapshot, silent_after)

    monkeypatch.setattr(rollcall, "publish_peers", slow_peers)
    with ThreadPoolExecutor(2) as threads:
        newer = threads.submit(world.presence)
        assert decides.wait(60)
        assert before is world.presence()
        monkeypatch.setattr(rollcall, "_OLD", 0.0)
        waits = threads.submit(world.presence)
        assert not wait([waits], timeout=0.2).done
        go_on.set()
        assert before is not newer.result()
        assert before is not waits.result()


def test_local_minion_is_told_by_the_hosts_addresses(master: Master, world: World) -> None:
    """The minion on the master's host connects from the loopback and claims the host's address."""
    master.accept("local", "127.0.0.1", "10.0.0.5")
    master.accept("web1", "10.0.0.1")
    master.connect("127.0.0.1")

    assert {"local": PRESENT, "web1": NOT_PRESENT} == states(world)


@pytest.mark.usefixtures("master")
def test_addresses_of_the_host_are_those_of_its_interfaces() -> None:
    """Neither the loopback's nor hardware addresses count; the zone of a link-local one is left out."""
    expected = {socket.inet_aton("10.0.0.5"), socket.inet_pton(socket.AF_INET6, "fe80::5")}

    assert expected == rollcall._host_addresses()


def test_sign_of_life_decides_behind_nat(master: Master, world: World) -> None:
    """What the bus has shown is evidence."""
    master.accept("nat1", "192.168.0.1")
    master.accept("nat2", "192.168.0.2")
    master.connect("203.0.113.9")
    world.refresh()
    world.activity.take([Event("auth", None, "nat1", None)], 0, 0.0, time.time())

    assert {"nat1": PRESENT, "nat2": NOT_PRESENT} == states(world)


# --- what cannot be read ---


def test_keys_in_another_store_are_told(master: Master, world: World) -> None:
    """With the mmap driver of 3008 there are no files of keys: that is not no keys."""
    master.raw["keys.cache_driver"] = "mmap_key"

    for ask in (world.keys, world.presence, world.refresh):
        with pytest.raises(SourceError, match=r"keys\.cache_driver: mmap_key, which cannot be read: only localfs_key"):
            ask()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("cache", "redis", "cache: redis, which the exporter cannot read: only localfs is supported"),
        ("minion_data_cache", False, "minion_data_cache: False, so nothing tells which address.*: set it to True"),
    ],
)
def test_grains_that_are_not_cached_in_files_are_told(
    master: Master, world: World, option: str, value: object, message: str
) -> None:
    """Without readable grains presence cannot be known, keys can; it recovers when the configuration changes."""
    master.accept("web1", "10.0.0.1")
    before = master.raw[option]
    master.raw[option] = value
    for _ in range(2):
        with pytest.raises(SourceError, match=message):
            world.presence()
    assert {"web1"} == world.keys().accepted
    assert float("inf") == world.age

    master.raw = master.raw | {option: before}
    master.configure("again")
    world.refresh()
    assert {"web1": NOT_PRESENT} == states(world)
    assert world.age < 10

    master.raw = master.raw | {option: value}
    master.configure("and again")
    for ask in (world.refresh, world.presence):  # what was known before is not shown for what is
        with pytest.raises(SourceError, match=message):
            ask()


@needs_root
def test_grains_of_another_user_are_told(monkeypatch: pytest.MonkeyPatch, master: Master) -> None:
    """Nobody is called absent because the exporter may not look; it recovers when it may."""
    with public_folder() as folder:
        public = Master(folder)
        monkeypatch.setattr(settings, "ask", public.ask)
        public.accept("web1", "10.0.0.1")
        public.connect("10.0.0.1")
        monkeypatch.setattr(world_module, "tcp_sockets", public.sockets)
        world = make_world(public, state_directory=master.folder)
        (folder / "cache/grains").chmod(0o700)
        with unprivileged():
            for _ in range(2):
                with pytest.raises(SourceError, match=r"cannot read the minions' cached grains.*Permission denied"):
                    world.presence()
        (folder / "cache/grains").chmod(0o755)
        with unprivileged():
            world.refresh()
            assert {"web1": PRESENT} == states(world)


def test_without_any_settings_everything_says_why(master: Master, world: World) -> None:
    """Whoever asks is told what is wrong with the configuration."""
    master.broken = "no YAML"

    for ask in (world.keys, world.presence, world.refresh, world.sampler.snapshot):
        with pytest.raises(SourceError, match="no YAML"):
            ask()


def test_broken_configuration_does_not_stop_the_rest(master: Master, world: World) -> None:
    """While the last good settings hold keys and grains are followed all the same."""
    master.accept("web1", "10.0.0.1")
    world.refresh()
    master.broken = "no YAML"
    master.configure("broken")
    master.accept("web2", "10.0.0.2")
    master.connect("10.0.0.2")
    world.refresh()

    assert {"web1": NOT_PRESENT, "web2": PRESENT} == states(world)
    assert "no YAML" == world.settings.problem


# --- silence ---


@pytest.mark.parametrize(
    ("version", "transport", "interval", "seconds"),
    [
        ("3006.28", "zeromq", None, 15.0),
        ("3007.15", "zeromq", None, None),
        ("3007.15", "zeromq", 10_000, None),  # set, but 3007 does not read it
        ("3008.3", "zeromq", 4000, 6.0),
        ("3008.3", "zeromq", 0, None),  # turned off
        ("3008.3", "tcp", None, None),
    ],
)
def test_silence_follows_from_the_heartbeats_of_the_line(
    master: Master, world: World, version: str, transport: str, interval: int | None, seconds: float | None
) -> None:
    """A connection is silent after one and a half heartbeats, where the master sends any."""
    master.version = version
    master.raw |= {"transport": transport, "zmq_heartbeat_ivl": interval}

    assert seconds == silent_after(world.settings.current())


def test_silent_connection_is_uncertain(master: Master, world: World) -> None:
    """The sampler's silence reaches the verdict."""
    master.accept("web1", "10.0.0.1")
    master.accept("web2", "10.0.0.2")
    master.connect("10.0.0.1", last_received_ms=15_001)
    master.connect("10.0.0.2", last_received_ms=14_999)

    assert {"web1": UNCERTAIN, "web2": PRESENT} == states(world)


# --- housekeeping ---


def test_signs_of_life_of_strangers_are_forgotten(master: Master, world: World) -> None:
    """Ids without an accepted key do not pile up."""
    master.accept("web1")
    signs = [Event("auth", None, minion, None) for minion in ("web1", "stranger")]
    world.activity.take(signs, 0, 0.0, 100.0)
    world.refresh()

    assert {"web1": 100.0} == world.activity.last_seen()


@pytest.fixture
def running(master: Master, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., World]]:
    """Return a starter of worlds that watch by themselves, in a hurry."""
    monkeypatch.setattr(world_module, "_TICK", 0.01)
    worlds = []

    def start(**values: object) -> World:
        worlds.append(make_world(master, presence_refresh=0.02, sampler_interval=0.02, **values))
        worlds[-1].start()
        return worlds[-1]

    yield start
    for world in worlds:
        world.stop()


def test_watching_notices_changes_by_itself(master: Master, running: Callable[..., World]) -> None:
    """Once started, keys, grains, sockets and configuration are looked at again and again."""
    world = running()
    assert world.ready.wait(10)
    master.accept("web1", "10.0.0.1")
    wait_until(lambda: states(world) == {"web1": NOT_PRESENT} and world.index.current.by_minion)
    master.connect("10.0.0.1")
    wait_until(lambda: states(world) == {"web1": PRESENT})
    wait_until(lambda: world.sampler.churn["publish"].opened == 1)
    master.raw = {**master.raw, "id": "another"}
    master.configure("id: another")
    wait_until(lambda: world.settings.current().id == "another")


def test_watching_goes_on_after_trouble(
    master: Master, running: Callable[..., World], caplog: pytest.LogCaptureFixture
) -> None:
    """A cause that goes away needs no restart; meanwhile jobs end at their deadline."""
    master.broken = "no YAML"
    world = running(jobs_deadline=0.05, jobs_deadlines=())
    assert world.ready.wait(10)
    job = JobNew("1", "test.ping", ("web1",), ())
    world.activity.take([Event("job_new", None, None, job)], 0, time.monotonic(), 0.0)
    wait_until(lambda: not world.activity.jobs.in_flight)
    assert "no YAML" == world.bus.problem

    master.broken = ""
    wait_until(lambda: world.age < 1)
    wait_until(lambda: "master_event_pub.ipc: it does not exist" in world.bus.problem)
    assert ["no YAML"] == list(
        dict.fromkeys(record.message for record in caplog.records if record.levelno > logging.INFO)
    )[:1]
    assert not any(record.exc_info for record in caplog.records)


def test_watching_goes_on_after_a_failure(
    running: Callable[..., World], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What nobody has thought of is logged with its traceback, and the next look may go well."""
    failures = [ZeroDivisionError("unheard of")]

    def addresses() -> frozenset[bytes]:
        if failures:
            raise failures.pop()
        return frozenset()

    monkeypatch.setattr(rollcall, "_host_addresses", addresses)
    world = running()
    wait_until(lambda: world.age < 10)

    assert "unheard of" in caplog.text


def test_stopping_ends_all_threads(running: Callable[..., World]) -> None:
    """Nothing goes on watching afterwards."""
    world = running()
    assert world.ready.wait(10)
    world.stop()

    wait_until(lambda: not world._housekeeper.is_alive())
    wait_until(lambda: not world.sampler._thread.is_alive())
    assert not any(thread.is_alive() for thread in world.bus._threads)
