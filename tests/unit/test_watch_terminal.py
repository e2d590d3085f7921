"""`salt-exporter watch` as a program in a terminal, beside an event bus that a test feeds."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import msgpack
import pytest

from salt_exporter.watch.command import _log_held_back
from tests.unit.daemons import PATIENCE, config_dir, eventually
from tests.unit.terminal import Terminal
from tests.unit.test_watch_events import HOSTILE, body

if TYPE_CHECKING:
    from collections.abc import Iterator

WATCH = [sys.executable, "-m", "salt_exporter", "watch", "--config.file=/dev/null"]


class Bus:
    """The event bus of a master of which nothing else runs."""

    def __init__(self, folder: Path) -> None:
        self.config_dir = config_dir(folder)
        with (self.config_dir / "master").open("a") as file:
            file.write("sock_dir: /run\n")  # below root_dir
        (folder / "run").mkdir()
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.settimeout(PATIENCE)
        self._listening.bind(str(folder / "run/master_event_pub.ipc"))
        self._listening.listen()
        self._connection: socket.socket | None = None

    def accept(self) -> None:
        """Wait for a consumer, the one before having left."""
        if self._connection:
            self._connection.close()
        self._connection, _ = self._listening.accept()
        self._connection.settimeout(PATIENCE)

    def fire(self, *bodies: bytes) -> None:
        """Send events; TimeoutError if the consumer does not take them."""
        assert self._connection
        for found in bodies:
            self._connection.sendall(msgpack.packb({"head": {}, "body": found}))

    def hang_up(self) -> None:
        """End the consumer's connection."""
        assert self._connection
        self._connection.close()

    def close(self) -> None:
        """End."""
        self._listening.close()
        if self._connection:
            self._connection.close()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Yield a folder whose name is short enough for a unix socket."""
    with tempfile.TemporaryDirectory(prefix="watch-", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def bus(folder: Path) -> Iterator[Bus]:
    """Yield a bus."""
    with closing(Bus(folder / "master")) as bus:
        yield bus


@pytest.fixture
def terminal(bus: Bus, folder: Path) -> Iterator[Terminal]:
    """Yield a terminal in which the view runs and has connected to the bus."""
    argv = [*WATCH, f"--salt.config-dir={bus.config_dir}", f"--state.directory={folder / 'state'}"]
    with closing(Terminal(argv)) as terminal:
        terminal.wait(" connected", PATIENCE)
        bus.accept()
        yield terminal


def test_events_appear_and_the_terminal_is_given_back(terminal: Terminal, bus: Bus) -> None:
    """What is fired is shown, a key quits with status 0, and the terminal is left as it was found."""
    bus.fire(body("my/tag", fun="my.fun"))
    terminal.wait(r"my/tag .* my\.fun")

    terminal.press("q")

    assert terminal.end() == 0
    assert b"\x1b[?1049h" in terminal.raw  # the other screen,
    assert terminal.raw.rindex(b"\x1b[?1049l") > terminal.raw.rindex(b"\x1b[?1049h")  # and back
    assert terminal.settings()[3] & (termios.ECHO | termios.ICANON) == termios.ECHO | termios.ICANON


def test_hostile_event_reaches_the_terminal_only_as_text(terminal: Terminal, bus: Bus) -> None:
    """Of the bytes that are written to the terminal none is a control sequence that an event brought."""
    bus.fire(body(HOSTILE, fun=HOSTILE, jid=HOSTILE, **{HOSTILE: HOSTILE}))
    terminal.wait(r"\\x1b\[2J")
    terminal.press("enter")
    terminal.wait(r"fun: \|")
    terminal.press("escape")
    terminal.wait("^time +tag")
    terminal.press("q")

    assert terminal.end() == 0
    assert [] == [
        part for part in (b"\x1b]0;", b"gone\x07", b"\xc2\x9b", b"\xe2\x80\xae", b"\x1b[2J") if part in terminal.raw
    ]


def test_terminal_that_takes_nothing_does_not_hold_up_the_bus(terminal: Terminal, bus: Bus) -> None:
    """While nobody reads the screen the bus is drained; every event has then been read, or counted as not shown."""
    many = [body(f"my/{number}", filling="." * 2_000) for number in range(30_000)]
    terminal.pause()

    began = time.monotonic()
    bus.fire(*many)  # 60 MB; a socket holds a few hundred kB
    seconds = time.monotonic() - began

    terminal.resume()
    bus.fire(body("after/it"))
    screen = terminal.wait("after/it")
    counted = re.search(r"([\d,]+) events(?: · ([\d,]+) not shown)?$", screen, re.MULTILINE)
    assert counted
    assert sum(int((number or "0").replace(",", "")) for number in counted.groups()) == len(many) + 1
    assert seconds < PATIENCE
    terminal.press("q")
    assert terminal.end() == 0


def test_bus_that_ends_is_connected_to_again(terminal: Terminal, bus: Bus) -> None:
    """When the master is back events go on, behind a mark that says that some are missing."""
    bus.hang_up()
    bus.accept()
    bus.fire(body("again/here"))

    lines = terminal.wait("again/here").splitlines()

    (event,) = (number for number, line in enumerate(lines) if "again/here" in line)
    assert any("events are missing here" in line for line in lines[:event])
    terminal.press("q")
    assert terminal.end() == 0


def test_it_can_be_told_to_end(terminal: Terminal) -> None:
    """SIGTERM ends it in order: the terminal is given back, and the status says which signal it was."""
    os.kill(terminal.process.pid, signal.SIGTERM)

    assert terminal.end() == 128 + signal.SIGTERM
    assert terminal.raw.rstrip().rindex(b"\x1b[?1049l") > terminal.raw.rindex(b"\x1b[?1049h")


def test_it_ends_when_the_terminal_goes_away(terminal: Terminal) -> None:
    """A connection that breaks leaves no process behind."""
    terminal.hang_up()

    assert eventually(lambda: terminal.process.poll() is not None)


@pytest.mark.parametrize("stream", ["standard input", "standard output", "standard error"])
def test_without_a_terminal_it_says_so(stream: str, bus: Bus) -> None:
    """Piped or redirected, it starts nothing, and says in a sentence why, and what to use instead."""
    ours, theirs = os.openpty()
    streams = {name: theirs for name in ("standard input", "standard output", "standard error") if name != stream}
    try:
        process = subprocess.Popen(
            [*WATCH, f"--salt.config-dir={bus.config_dir}"],
            stdin=streams.get("standard input", subprocess.DEVNULL),
            stdout=streams.get("standard output", subprocess.PIPE),
            stderr=streams.get("standard error", subprocess.PIPE),
        )
        piped = b"".join(part or b"" for part in process.communicate(timeout=PATIENCE))
        said = piped or os.read(ours, 1 << 16)
    finally:
        os.close(ours)
        os.close(theirs)

    assert process.returncode == 2
    assert said.decode().split(":")[:2] == ["salt-exporter", f" {stream} is no terminal"]
    assert "salt-exporter check" in said.decode()


def test_without_a_master_it_says_so(tmp_path: Path) -> None:
    """Where there is no master to watch the screen is not touched, and the status is 2."""
    argv = [*WATCH, f"--salt.config-dir={tmp_path}", f"--state.directory={tmp_path / 'state'}"]
    with closing(Terminal(argv)) as terminal:
        assert terminal.end() == 2
        assert terminal.raw.startswith(b"salt-exporter: ")
        assert b"set --salt.config-dir" in terminal.raw


def test_log_waits_until_the_screen_is_free(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines of the log do not disturb the screen; the last of them stand below it in the end."""
    handler = logging.StreamHandler(sys.stderr)
    log = logging.getLogger()
    log.addHandler(handler)
    try:
        with _log_held_back():
            for number in range(150):
                log.error("line %d", number)
            before = capsys.readouterr().err
        log.error("at once")
    finally:
        log.removeHandler(handler)

    assert before == ""
    assert [f"line {number}" for number in range(50, 150)] + ["at once"] == capsys.readouterr().err.splitlines()


def test_no_other_command_loads_the_library_of_the_view() -> None:
    """Textual is imported by `watch` alone: every other command and the daemon do without."""
    program = (
        "import pkgutil, sys, importlib, salt_exporter\n"
        "for module in pkgutil.walk_packages(salt_exporter.__path__, 'salt_exporter.'):\n"
        "    name = module.name\n"
        "    if not name.startswith('salt_exporter.watch') and name not in OTHERS:\n"
        "        importlib.import_module(name)\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'textual', 'rich', 'salt'}))\n"
    )
    for_salts_python = {"salt_exporter.master.resolve", "salt_exporter.demo.ping", "salt_exporter.demo.publisher"}
    others = {"salt_exporter.__main__", *for_salts_python}

    done = subprocess.run(
        [sys.executable, "-c", program.replace("OTHERS", repr(others))], capture_output=True, text=True, check=True
    )

    assert done.stdout == "[]\n"
