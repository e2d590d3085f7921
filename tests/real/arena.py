"""A master with minions that each sit behind a link of their own, for faults of every kind."""

from __future__ import annotations

import json
import os
import re
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

import msgpack

from tests.real.exporter import DEADLINE, Exporter
from tests.real.processes import stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from salt_exporter.demo.lab import Lab
    from tests.real.namespaces import Network

MASTER: Final = "10.78.0.1"
MINIONS: Final = ("able", "baker", "charlie", "delta")
MORE_MINIONS: Final = ("echo", "foxtrot", "golf", "hotel")
FORKING: Final = "foxtrot"  # runs each job in a process of its own, as by default; the others are quicker
HWM: Final = 40

_SIZE = 20_000  # bytes of a large job
_PACE = 0.1  # seconds between large jobs: ten of them from one look at the queue to the next
_JID = re.compile(r"with jid (\d{20})")
_PROGRAMS = Path(__file__).with_name("programs")


class Arena:
    """A master, four minions or more, and the exporter; each minion behind a link of its own."""

    def __init__(self, lab: Lab, network: Network, state: Path) -> None:
        self.lab = lab
        self.minions = list(MINIONS)
        self.network = network
        self._state = state
        self._commands = 0
        self._jobs = 0
        self._caller = self._start_caller()
        self.exporter = self._new_exporter()

    def _start_caller(self) -> TextIO:
        fifo = self.lab.folder / "caller"
        os.mkfifo(fifo)
        argv = [self.lab.programs.python, str(_PROGRAMS / "caller.py"), str(self.lab.config_dir), str(fifo)]
        self.lab.start("caller", argv, self.network.prefix("arena"))
        return fifo.open("w", buffering=1)

    def _new_exporter(self) -> Exporter:
        exporter = Exporter(self.lab, self.network.prefix("arena"), self._state)
        exporter.wait(
            lambda metrics: bool(metrics.get("salt_exporter_collector_success", collector="publish")), 40, "subscribed"
        )
        return exporter

    def close(self) -> None:
        """End the exporter and the program that publishes."""
        self._caller.close()
        self.exporter.stop()

    def start_more_minions(self) -> None:
        """Start the other minions, too, if they do not run yet."""
        more = [minion for minion in MORE_MINIONS if minion not in self.minions]
        for minion in more:
            self.lab.start_minion(minion, {"multiprocessing": minion == FORKING}, self.network.prefix(minion), MASTER)
        self.minions += more
        self.lab.wait_minions(more)

    @contextmanager
    def frozen(self, minion: str) -> Iterator[None]:
        """Suspend a minion with all its processes during the block; at the end everybody answers again."""
        with stopped(self.lab.processes(minion)):
            yield
        self.wait_until_all_answer()

    def restart_exporter(self) -> None:
        """Start the exporter again."""
        self.exporter = self._new_exporter()

    def job(self, target: str, function: str, *arguments: object, target_type: str = "glob") -> str:
        """Publish a job, for whose returns nobody waits, and return its jid."""
        self._caller.write(json.dumps([target, target_type, function, arguments]) + "\n")
        self._jobs += 1
        return self._answer("caller", lambda said: said.splitlines()[self._jobs - 1])

    def command(self, *arguments: str) -> str:
        """Start the `salt` command, which waits for returns and asks `find_job`, and return the jid of its job."""
        self._commands += 1
        name = f"salt-{self._commands}"
        # Salt prints the jid at once, but does not flush it.
        unbuffered = ["env", "PYTHONUNBUFFERED=1"]
        argv = [*unbuffered, self.lab.programs.cli, f"--config-dir={self.lab.config_dir}", "--verbose", *arguments]
        self.lab.start(name, argv, self.network.prefix("arena"))
        return self._answer(name, lambda said: _JID.search(said)[1])  # type: ignore[index] # tried until it is there

    def _answer(self, name: str, read: Callable[[str], str]) -> str:
        deadline = time.monotonic() + 30
        while True:
            said = self.lab.log(name).read_text()
            with suppress(IndexError, TypeError):
                return read(said)
            assert time.monotonic() < deadline, said
            time.sleep(0.02)

    @contextmanager
    def large_jobs(self) -> Iterator[None]:
        """Publish large jobs for nobody during the block."""
        argv = [self.lab.programs.python, str(_PROGRAMS / "publisher.py"), str(self.lab.config_dir)]
        name = f"flood-{time.monotonic_ns()}"
        self.lab.start(name, [*argv, "ghost", "10000", str(_PACE), str(_SIZE)], self.network.prefix("arena"))
        try:
            yield
        finally:
            self.lab.kill(name)

    def losses(self, jid: str) -> dict[str, dict[str, Any]]:
        """Return the losses of a job by minion."""
        found = json.loads(self.exporter.get(f"/api/v1/losses?jid={jid}"))["losses"]
        return {loss["minion"]: loss for loss in found}

    def all_losses(self) -> list[dict[str, Any]]:
        """Return everything the journal holds."""
        return list(json.loads(self.exporter.command("losses", "--json", "--limit", "1000000")))

    @property
    def slowness(self) -> float:
        """How many times as long as on an idle machine things may take here."""
        return self.exporter.deadline / DEADLINE

    def cause(self, jid: str, minion: str) -> str:
        """Return the cause of a missing response once the job is closed."""
        deadline = time.monotonic() + 10 * self.exporter.deadline
        while minion not in (found := self.losses(jid)):
            assert time.monotonic() < deadline, f"{minion} is not called missing: {found}"
            time.sleep(0.5)
        print(minion, found[minion]["cause"], found[minion]["evidence"])  # noqa: T201 - for whoever looks
        return str(found[minion]["cause"])

    def process_of(self, jid: str, minion: str) -> int:
        """Return the process that runs a job, once it does."""
        file = next(self.lab.folder.glob(f"minions/{minion}/**/proc"), None)
        assert file is not None
        deadline = time.monotonic() + 20
        while not (packed := (file / jid).read_bytes() if (file / jid).exists() else b""):
            assert time.monotonic() < deadline, f"{minion} does not run the job"
            time.sleep(0.05)
        return int(msgpack.unpackb(packed)["pid"])

    def wait_until_all_answer(self) -> None:
        """Wait until everybody is back, whatever a test has done to them."""
        self.lab.wait_minions(self.minions)
