"""A master, two minions and the exporter in a node of their own, for faults that befall the master or the exporter."""

from __future__ import annotations

import json
import os
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

import psutil

from salt_exporter.demo.cleaner import Cleaner
from salt_exporter.demo.lab import Lab
from salt_exporter.demo.salt_config import living_at
from tests.real.conftest import GHOST_KEY
from tests.real.exporter import Exporter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from salt_exporter.demo.programs import SaltPrograms
    from tests.real.exporter import Metrics
    from tests.real.namespaces import Network

MINIONS: Final = ("m1", "m2")
# Jobs of this function, a return of which is missing, are soon closed. All others have time, for what is tested with
# them is that every minion returns: they are closed as soon as that has happened.
LOST: Final = "test.collatz"
DEADLINE: Final = 4  # seconds
_SETTINGS = (
    *("--sampler.interval=500ms", "--presence.refresh=1s"),
    *("--jobs.deadline=2m", f"--jobs.deadlines={LOST}={DEADLINE}s,test.ping=2m"),
    *("--probe.request-interval=1s", "--probe.request-timeout=1s"),
)
_PROGRAMS = Path(__file__).with_name("programs")


class Scene:
    """What the faults befall. A key "ghost" is accepted whose minion does not exist."""

    def __init__(self, lab: Lab, prefix: list[str], state: Path) -> None:
        self.lab = lab
        self.state = state
        self.prefix = prefix
        self._published = 0
        self._callers = 0
        self._caller: TextIO | None = None
        self.exporter = self.new_exporter()
        self.wait_well()

    def new_exporter(self, prefix: Sequence[str] = ()) -> Exporter:
        """Start an exporter, beside the master unless a prefix says otherwise."""
        return Exporter(self.lab, prefix or self.prefix, self.state, settings=_SETTINGS)

    @contextmanager
    def other_exporter(self, prefix: Sequence[str] = ()) -> Iterator[None]:
        """Run another exporter during the block in the place of the one there is."""
        self.exporter.stop()
        self.exporter = self.new_exporter(prefix)
        try:
            yield
        finally:
            self.exporter.stop()
            self.exporter = self.new_exporter()
            self.wait_well()

    def start_caller(self) -> None:
        """Begin to publish, with a new process: a master that has been restarted has a new key for local clients."""
        if self._caller:
            self._caller.close()
        self._callers += 1
        self._published = 0
        fifo = self.lab.folder / f"caller-{self._callers}"
        os.mkfifo(fifo)
        argv = [self.lab.programs.python, str(_PROGRAMS / "caller.py"), str(self.lab.config_dir), str(fifo)]
        self.lab.start(f"caller-{self._callers}", argv, self.prefix)
        self._caller = fifo.open("w", buffering=1)

    def job(self, target: str, function: str, *arguments: object) -> str:
        """Publish a job, for whose returns nobody waits, and return its jid."""
        if self._caller is None:
            self.start_caller()
        assert self._caller
        self._caller.write(json.dumps([target, "glob", function, arguments]) + "\n")
        self._published += 1
        log = self.lab.log(f"caller-{self._callers}")
        deadline = time.monotonic() + 30
        while len(said := log.read_text().splitlines()) < self._published:
            assert time.monotonic() < deadline, said
            time.sleep(0.02)
        return said[-1]

    def losses(self) -> dict[str, list[dict[str, Any]]]:
        """Return all that the running exporter's journal holds, by job."""
        found: dict[str, list[dict[str, Any]]] = {}
        for loss in json.loads(self.exporter.get("/api/v1/losses?limit=100000"))["losses"]:
            found.setdefault(loss["jid"], []).append(loss)
        return found

    def lost(self) -> set[tuple[str, str]]:
        """Return jid and minion of all these, whatever is found out about them later."""
        return {(jid, loss["minion"]) for jid, losses in self.losses().items() for loss in losses}

    def jobs(self) -> dict[str, dict[str, Any]]:
        """Return the jobs that the exporter remembers, by jid."""
        return {job["jid"]: job for job in json.loads(self.exporter.get("/api/v1/jobs?limit=2000"))["jobs"]}

    def wait_closed(self, jids: Sequence[str], timeout: float = 150) -> Metrics:
        """Wait until these jobs are known, and no job is in flight."""
        deadline = time.monotonic() + timeout
        while not set(jids) <= self.jobs().keys():
            assert time.monotonic() < deadline, f"not all of {jids} are known"
            time.sleep(0.2)
        return self.exporter.wait(lambda metrics: metrics.get("salt_jobs_in_flight") == 0, timeout, "all are closed")

    def lose(self) -> str:
        """Publish a job that one response is missing of, wait until it is called so, and return its jid."""
        jid = self.job("ghost", LOST, 6)
        self.wait_closed([jid])
        return jid

    def wait_told(self, *jids: str) -> None:
        """Wait until the journal holds losses of these jobs."""
        self.lab.wait("exporter", lambda: set(jids) <= self.losses().keys(), 20)

    def assert_counted(self, jids: Sequence[str]) -> None:
        """Wait until these jobs, for both minions, are closed; all have returned, and nobody is missing."""
        self.wait_closed(jids)
        known = self.jobs()
        assert dict.fromkeys(jids, (len(MINIONS), 0)) == {
            jid: (known[jid]["returned"], known[jid]["missing"]) for jid in jids
        }

    def wait_well(self, timeout: float = 40) -> Metrics:
        """Wait until the exporter sees everything again."""
        return self.exporter.wait(is_well, timeout, "all collectors succeed")

    @property
    def process(self) -> psutil.Process:
        """The exporter's process."""
        return psutil.Process(self.lab.pid("exporter"))

    @contextmanager
    def said(self) -> Iterator[list[str]]:
        """Yield a list that holds, after the block, what the exporter has said meanwhile as warning or error."""
        log = self.lab.log("exporter")
        before = len(log.read_text())
        lines: list[str] = []
        yield lines
        lines += [line for line in log.read_text()[before:].splitlines() if "level=info" not in line]

    def tells(self, text: str) -> bool:
        """Tell whether the exporter has said something since it was started first."""
        return text in self.lab.log("exporter").read_text()

    @contextmanager
    def nothing_lost(self) -> Iterator[None]:
        """Afterwards the exporter sees everything, is the same process, and no counter is less than it was."""
        process = self.process
        before = self.exporter.scrape()
        yield
        after = self.wait_well()
        assert process.is_running()
        assert [] == gone_back(before, after)

    def close(self) -> None:
        """End the exporter and the program that publishes."""
        if self._caller:
            self._caller.close()
        self.exporter.stop()


def is_well(metrics: Metrics) -> bool:
    """Tell whether the exporter sees everything."""
    collectors = metrics.by("salt_exporter_collector_success", "collector")
    return all(collectors.values()) and metrics.get("salt_exporter_eventbus_connected") == 1


def gone_back(before: Metrics, after: Metrics) -> list[str]:
    """Return the counters that are less than they were, or not there any more: nothing that was counted may be lost."""
    return [
        f"{name} {dict(labels)}: {value:g} → {after.get(name, -1.0, **dict(labels)):g}"
        for name, labels, value in before.counters()
        if after.get(name, -1.0, **dict(labels)) < value
    ]


@contextmanager
def scene(
    programs: SaltPrograms, network: Network, node: str, state: Path, options: Mapping[str, object] | None = None
) -> Iterator[Scene]:
    """Yield a scene on a node, whose loopback interface is all that is used."""
    network.add(node)
    prefix = network.prefix(node)
    with closing(Cleaner()) as cleaner:
        lab = Lab(cleaner, programs, options=options, prefix=prefix)
        lab.accept_key("ghost", GHOST_KEY)
        lab.start_master()
        lab.wait_master_ready()
        for number, minion in enumerate(MINIONS, 1):
            lab.start_minion(minion, living_at(f"127.7.0.{number}"), prefix)
        lab.wait_minions(MINIONS)
        with closing(Scene(lab, prefix, state)) as found:
            yield found
