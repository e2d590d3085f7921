"""What systemd is told: at start, on reload, at the end, and that we are alive as long as all of us is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from salt_exporter import notify
from salt_exporter.notify import Notifier, stay_alive
from tests.unit.daemons import PATIENCE, Daemon, config_dir, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# What the interpreter of a daemon runs first: the sampler's thread ends as soon as there is a file of this name.
END_SAMPLER = """
import threading

run = threading.Thread.run

def run_or_end(self):
    if self.name == "sampler":
        target, self._target = self._target, lambda: None
        while not os.path.exists(os.environ["END_SAMPLER"]):
            import time; time.sleep(0.05)
    run(self)

threading.Thread.run = run_or_end
"""


class Manager:
    """A service manager: the socket that services tell it things by."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(0)
        self.told: list[str] = []

    def listen(self) -> list[str]:
        """Return all that has been told so far."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.told.append(self.socket.recv(4096).decode())
        return self.told

    def count(self, message: str) -> int:
        """Count how often this has been told so far."""
        return self.listen().count(message)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """Return a manager that listens."""
    manager = Manager(str(tmp_path / "notify"))
    yield manager
    manager.socket.close()


def test_words_of_the_protocol(manager: Manager) -> None:
    """Each state is one datagram in the words of sd_notify(3); a reload carries its time, a status is one line."""
    notifier = Notifier({"NOTIFY_SOCKET": manager.address})
    before = time.monotonic_ns() // 1000

    notifier.ready()
    notifier.reloading()
    notifier.stopping()
    notifier.alive()
    notifier.status("two\nlines")

    ready, reloading, stopping, alive, status = manager.listen()
    assert (ready, stopping, alive, status) == ("READY=1", "STOPPING=1", "WATCHDOG=1", "STATUS=two lines")
    state, _, stamp = reloading.partition("\nMONOTONIC_USEC=")
    assert state == "RELOADING=1"
    assert before <= int(stamp) <= time.monotonic_ns() // 1000


def test_status_is_told_when_it_is_new(manager: Manager) -> None:
    """The same status again is not worth a datagram."""
    notifier = Notifier({"NOTIFY_SOCKET": manager.address})

    for text in ("a", "a", "b", "a"):
        notifier.status(text)

    assert manager.listen() == ["STATUS=a", "STATUS=b", "STATUS=a"]


def test_abstract_address() -> None:
    """An address with @ is one without a file."""
    manager = Manager(f"@salt-exporter-test-{os.getpid()}")

    Notifier({"NOTIFY_SOCKET": manager.address}).ready()

    assert manager.listen() == ["READY=1"]
    manager.socket.close()


def test_manager_that_cannot_be_told_is_no_error(tmp_path: Path) -> None:
    """No manager, one that is gone, and one that does not read: nothing happens, and nothing hangs."""
    Notifier({}).ready()
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()
    deaf = Manager(str(tmp_path / "deaf"))
    notifier = Notifier({"NOTIFY_SOCKET": deaf.address})
    began = time.monotonic()
    for _ in range(14):  # the kernel keeps 10 (net.unix.max_dgram_qlen)
        notifier.alive()

    assert 0 < len(deaf.listen()) < 14
    assert time.monotonic() - began < 10
    deaf.socket.close()


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_watchdog_interval(environ: dict[str, str], seconds: float | None) -> None:
    """The manager says how often it wants a sign of life, and of which process."""
    assert seconds == Notifier({"NOTIFY_SOCKET": "/run/notify", **environ}).watchdog


def test_watchdog_is_fed_while_every_vital_thread_lives(
    manager: Manager, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Signs of life come in time until a thread has ended; then the status and one error say which."""
    monkeypatch.setattr(notify, "_LOOK_EVERY", 0.02)
    notifier = Notifier({"NOTIFY_SOCKET": manager.address})
    end = threading.Event()
    threads = [threading.Thread(target=end.wait, name=name) for name in ("one", "two")]
    for thread in threads:
        thread.start()

    async def look_for(seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            manager.listen()
            await asyncio.sleep(0.01)

    async def listen(seconds: float) -> int:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            manager.listen()
            await asyncio.sleep(0.01)
        return manager.count("WATCHDOG=1")

    async def watch() -> int:
        task = asyncio.create_task(stay_alive(notifier, frozenset(("one", "two")), lambda: "fine"))
        await listen(0.3)
        end.set()
        fed = await listen(0.1)
        await listen(0.3)
        task.cancel()
        return fed

    fed = asyncio.run(watch())

    assert fed >= 3
    assert fed == manager.count("WATCHDOG=1")
    assert next(line for line in manager.listen() if "STATUS" in line) == "STATUS=fine"
    assert "STATUS=these threads have ended: one, two" in manager.told
    assert [record.getMessage() for record in caplog.records][-1] == (
        "these threads have ended: one, two; the exporter has to be started again"
    )
    assert len(caplog.records) <= 2  # they do not end at the same moment
    for thread in threads:
        thread.join()


def started(start: Callable[..., Daemon], manager: Manager, folder: Path, at_start: str = "") -> Daemon:
    """Start a daemon as systemd would, with a watchdog of 0.6 s."""
    environ = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "600000", "END_SAMPLER": str(folder / "end")}
    return start(config_dir=config_dir(folder), environ=environ, at_start=at_start)


def test_daemon_tells_of_its_life(start: Callable[..., Daemon], manager: Manager, tmp_path: Path) -> None:
    """Ready when it listens, alive from then on, reloading and ready again on SIGHUP, stopping at the end."""
    daemon = started(start, manager, tmp_path)
    assert eventually(lambda: manager.count("READY=1"))
    assert eventually(lambda: manager.count("WATCHDOG=1") > 5)
    assert any(line.startswith("STATUS=") for line in manager.told)

    daemon.kill(signal.SIGHUP)
    assert eventually(lambda: manager.count("READY=1") == 2)
    (reloading,) = [number for number, line in enumerate(manager.told) if line.startswith("RELOADING=1\n")]
    assert reloading < manager.told.index("READY=1", reloading)

    daemon.kill(signal.SIGTERM)
    assert daemon.process.wait(PATIENCE) == 0
    assert manager.listen()[-1] == "STOPPING=1"


def test_daemon_without_a_sampler_is_not_alive(start: Callable[..., Daemon], manager: Manager, tmp_path: Path) -> None:
    """When a thread that the figures depend on has ended, the watchdog is fed no more: systemd starts us again."""
    daemon = started(start, manager, tmp_path, at_start=END_SAMPLER)
    assert eventually(lambda: manager.count("WATCHDOG=1") > 3)

    (tmp_path / "end").touch()

    assert eventually(lambda: "STATUS=these threads have ended: sampler" in manager.listen())
    fed = manager.count("WATCHDOG=1")
    time.sleep(1)
    assert fed == manager.count("WATCHDOG=1")
    assert "these threads have ended: sampler; the exporter has to be started again" in daemon.log()
    assert daemon.get("/-/healthy")[0] == 200
