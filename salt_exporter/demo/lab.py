"""A private Salt master and real minions below one folder: for `salt-exporter demo` and tests with real Salt.

Below the folder: `conf` (the master's configuration directory: `salt-run -c <folder>/conf …` works), `pki`,
`cache`, `run` (sockets), `log` (what each process printed) and `minions/<id>` with the same for each minion.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from salt_exporter.demo import salt_config, sockets
from salt_exporter.demo.cleaner import CleanerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from salt_exporter.demo.cleaner import Cleaner
    from salt_exporter.demo.programs import SaltPrograms

_MASTER = "master"
_PING = Path(__file__).with_name("ping.py")
_PATIENCE = 180.0  # seconds; Salt takes some to start, and a busy machine makes many of them


class LabError(Exception):
    """A process did not start or did not do what was asked in time; the text ends with its last output."""


class Lab:
    """One master and its minions, started through `cleaner` so that they end with their owner.

    `ports` are the publish and the request port; `options` are the master's, over those of `salt_config`.
    A `prefix` is put before a command to run it elsewhere, such as ("ip", "netns", "exec", "name"); the
    master's is used for `salt` and `salt-run` too. Every method may raise LabError, those that write
    configuration files FolderNameError.
    """

    def __init__(
        self,
        cleaner: Cleaner,
        programs: SaltPrograms,
        ports: tuple[int, int] = (4505, 4506),
        options: Mapping[str, object] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        self.folder = cleaner.folder
        self.programs = programs
        self.ports = ports
        self._cleaner = cleaner
        self._prefix = list(prefix)
        self._commands: dict[str, list[str]] = {}
        self._leaders: dict[str, int] = {}
        (self.folder / "log").mkdir()
        self.config_dir = salt_config.write_master(self.folder, ports, options or {})

    def start_master(self) -> None:
        """Start the master; `wait_master_ready` waits until it is there."""
        self.start(_MASTER, [self.programs.master, f"--config-dir={self.config_dir}"], self._prefix)

    def start_minion(
        self,
        minion_id: str,
        options: Mapping[str, object] | None = None,
        prefix: Sequence[str] = (),
        master: str = "127.0.0.1",
    ) -> None:
        """Start a minion of the master at that address; `wait_minions` waits until it is there."""
        config_dir = salt_config.write_minion(self.folder, minion_id, self.ports, master, options or {})
        # Without keepalive a minion is one process, and whether it starts again is for the caller to say.
        argv = [self.programs.minion, f"--config-dir={config_dir}", "--disable-keepalive"]
        self.start(minion_id, argv, prefix)

    def accept_key(self, minion_id: str, public_key: str) -> None:
        """Give the master the accepted key (PEM) of a minion that need not exist."""
        keys = self.folder / "pki" / "minions"
        keys.mkdir(mode=0o700, parents=True, exist_ok=True)
        (keys / minion_id).write_text(public_key)

    def start(self, name: str, argv: Sequence[str], prefix: Sequence[str] = ()) -> None:
        """Start any program, by which name the other methods know it."""
        self._commands[name] = [*prefix, *argv]
        self._leaders[name] = self._spawn(self._commands[name], self.log(name))

    def stop(self, name: str, grace: float = 5.0) -> None:
        """End a process with SIGTERM, and with SIGKILL what is left of it after `grace` seconds."""
        for process in self.processes(name):
            if process.pid == self.pid(name):
                process.terminate()
        if not _becomes_true(lambda: not self.processes(name), grace):
            self.kill(name)

    def kill(self, name: str) -> None:
        """End a process and all it started with SIGKILL."""
        _kill(self.processes(name))
        if not _becomes_true(lambda: not self.processes(name), 10):
            raise LabError(f"{name} survives SIGKILL")

    def restart(self, name: str) -> None:
        """Stop a process if it runs, and start it again as before."""
        self.stop(name)
        self._leaders[name] = self._spawn(self._commands[name], self.log(name))

    def pid(self, name: str) -> int:
        """Return the process id under which a process was started, its parent's if it forks."""
        return self._leaders[name]

    def processes(self, name: str) -> list[psutil.Process]:
        """Return what lives of a process and of those it started."""
        return self._cleaner.session(self._leaders[name])

    def log(self, name: str) -> Path:
        """Return the file that holds what a process has printed."""
        return self.folder / "log" / f"{name}.log"

    def check(self, name: str) -> None:
        """Raise LabError if a process has ended."""
        if not self.is_running(name):
            raise LabError(f"{name} has ended{self._tail(name)}")

    def is_running(self, name: str) -> bool:
        """Tell whether a process runs; those it started may outlive it."""
        return psutil.pid_exists(self.pid(name))

    def wait(self, name: str, condition: Callable[[], bool], timeout: float) -> None:
        """Wait for something a process shall do; LabError if it ends or takes longer."""
        if not _becomes_true(lambda: condition() or not self.is_running(name), timeout):
            raise LabError(f"{name} was not ready after {timeout:.0f} s{self._tail(name)}")
        self.check(name)

    def wait_master_ready(self, timeout: float = _PATIENCE) -> None:
        """Wait until the master listens on both ports and has its event bus."""
        self.wait(_MASTER, self._master_is_ready, timeout)

    def wait_minions(self, minion_ids: Iterable[str], timeout: float = _PATIENCE) -> None:
        """Wait until all these minions have answered a test.ping."""
        deadline = time.monotonic() + timeout
        silent = list(minion_ids)
        if not silent:
            return
        for minion_id in silent:
            connected = partial(sockets.is_connected, self.pid(minion_id), self.ports[0])
            self.wait(minion_id, connected, timeout)
        argv = [*self._prefix, self.programs.python, str(_PING), str(self.config_dir), *silent]
        asking = self._spawn(argv, self.log("ping"))
        if not _becomes_true(lambda: not psutil.pid_exists(asking), deadline - time.monotonic()):
            _kill(self._cleaner.session(asking))
        if not self.log("ping").read_text().endswith("all have answered\n"):
            raise LabError(f"not all answer of {', '.join(silent)}{self._tail('ping')}{self._tail(silent[0])}")

    def salt(self, *arguments: str, timeout: float = _PATIENCE) -> dict[str, Any]:
        """Run the `salt` command, return the answers by minion id; for a missing one it is Salt's remark."""
        # Not --static, which makes a batch of it, that is two jobs.
        said = self._output(self.programs.cli, "--out=json", "--out-indent=-1", *arguments, timeout=timeout)
        answers: dict[str, Any] = {}
        for line in said.splitlines():
            if line.startswith("{"):  # "No minions matched the target." is said in another line
                answers |= json.loads(line)
        return answers

    def run(self, *arguments: str, timeout: float = _PATIENCE) -> Any:  # noqa: ANN401 - a runner returns what it likes
        """Run the `salt-run` command and return what the runner returned."""
        return json.loads(self._output(self.programs.runner, "--out=json", *arguments, timeout=timeout))

    def _output(self, program: str, *arguments: str, timeout: float) -> str:
        """Run a command of the master's to its end and return its standard output."""
        argv = [*self._prefix, program, f"--config-dir={self.config_dir}", *arguments]
        with tempfile.TemporaryDirectory(dir=self.folder / "log") as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            pid = self._spawn(argv, out, err)
            if not _becomes_true(lambda: not psutil.pid_exists(pid), timeout):
                _kill(self._cleaner.session(pid))
                raise LabError(f"{' '.join(argv)} took longer than {timeout:.0f} s")
            if not (said := out.read_text()):
                raise LabError(f"{' '.join(argv)} failed: {err.read_text().strip()}")
            return said

    def _spawn(self, argv: Sequence[str], stdout: Path, stderr: Path | None = None) -> int:
        # Nothing here is meant for an exporter that runs on this machine for real, nor the other way round.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SALT_EXPORTER_")}
        try:
            return self._cleaner.spawn(argv, environment, stdout, stderr)
        except CleanerError as error:
            raise LabError(f"cannot start {argv[0]}: {error}") from error

    def _master_is_ready(self) -> bool:
        bus, publisher = (self.folder / "run" / name for name in ("master_event_pub.ipc", "publish_pull.ipc"))
        listening = sockets.listening_ports(self.pid(_MASTER))
        return listening.issuperset(self.ports) and bus.exists() and publisher.exists()

    def _tail(self, name: str, lines: int = 15) -> str:
        last = self.log(name).read_text(errors="replace").splitlines()[-lines:]
        return "\n".join([f"; the last lines of {name}.log:", *last]) if last else "; it printed nothing"


def _becomes_true(condition: Callable[[], bool], timeout: float) -> bool:
    """Look ten times a second until a condition holds; return False if it does not within `timeout` seconds.

    Most conditions read all of /proc: looking more often takes from what is waited for.
    """
    deadline = time.monotonic() + timeout
    while not (holds := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return holds


def _kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
