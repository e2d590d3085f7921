"""The exporter beside a master for a long time, with all that goes on there: it must stay as it is.

    python -m tests.real.soak --minutes 60 --salt .salt/3008/bin --report docs/endurance.md

Jobs at a constant pace; minions that stop and come back; keys that are asked for, accepted, rejected and deleted; the
exporter's log rotated; the master restarted, by the book and by SIGKILL; a scrape every second. Memory, descriptors,
threads and series are written down every ten seconds. After each stretch of five minutes publishing pauses, and what
the exporter says is compared with the truth (soak_truth.py). Needs root, for a network namespace of its own.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from salt_exporter.demo.cleaner import Cleaner
from salt_exporter.demo.lab import Lab
from salt_exporter.demo.programs import SaltPrograms
from salt_exporter.demo.salt_config import living_at
from tests.real.conftest import GHOST_KEY
from tests.real.exporter import Exporter
from tests.real.namespaces import Network, delete_leftovers
from tests.real.soak_report import Sample, growing, page
from tests.real.soak_truth import Books, Truth

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.real.exporter import Metrics
    from tests.real.soak_truth import Audit

NODE = "soak"
_MINIONS = ("m1", "m2", "m3", "m4", "m5")
_PACE = 1.0  # seconds between jobs
_STRETCH = 300.0  # seconds between audits
_SAMPLE = 10.0  # seconds
_DEADLINE = 10.0  # of the jobs
_QUIET = 30.0  # seconds in which all jobs must be closed
# Beyond its deadline a job is looked at when the housekeeper comes to it.
_UNDER_WAY = _DEADLINE + 5.0
_SETTINGS = (
    f"--jobs.deadline={_DEADLINE:.0f}s",
    f"--jobs.deadlines=test.ping={_DEADLINE:.0f}s",
    "--presence.refresh=2s",
)
_PROGRAMS = Path(__file__).with_name("programs")
_PAGE = """\
<!-- Written by `python -m tests.real.soak`; do not edit. -->

# Endurance

The exporter beside a real master for {minutes:.0f} minutes, with five minions: a job a second, minions that stop and
come back, keys that are asked for, accepted, rejected and deleted, log rotation (copied, truncated, SIGHUP), restarts
of the master by SIGTERM and SIGKILL in turn, and a scrape every second. After each stretch what the exporter says is
compared with the truth on the master's disk: the job cache, job by job and minion by minion, and the keys.

*Hidden* are jobs published while the master was restarting: nobody can know of all of them. *Shaken*, which includes
them, are those that were under way when it began, or of which a return was stored meanwhile: these may have passed
unseen. All others must be right to the last response: in the journal of losses, the list of jobs and the counters.

`sudo .venv/bin/python -m tests.real.soak --minutes 60 --salt .salt/3008/bin --report docs/endurance.md` runs it again;
its exit status is 1 if something grows or drifts.

"""


@dataclass
class Outcome:
    """What a soak has found."""

    seconds: float = 0.0
    samples: list[Sample] = field(default_factory=list)
    audits: list[Audit] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)  # anything else that must not be

    def failures(self) -> list[str]:
        """Return all that is wrong, nothing if all is well."""
        differences = [difference for audit in self.audits for difference in audit.differences]
        return [*growing(self.samples), *differences, *self.problems]


class Soak:
    """A master, its minions, the exporter, and what is done to them."""

    def __init__(self, lab: Lab, prefix: list[str], state: Path, tell: Callable[[str], None]) -> None:
        self.lab = lab
        self.outcome = Outcome()
        self._prefix = prefix
        self._tell = tell
        self._began = time.monotonic()
        self._strangers = (f"stranger{number}" for number in itertools.count(1))
        self._killing = itertools.cycle((False, True))
        self._old_logs: list[str] = []
        for number, minion in enumerate(_MINIONS, 1):
            lab.start_minion(minion, living_at(f"127.7.0.{number}"), prefix)
        lab.wait_minions(_MINIONS)
        self.exporter = Exporter(lab, prefix, state, settings=_SETTINGS)
        self._process = psutil.Process(lab.pid("exporter"))
        self._wait_until_watching()
        lab.start("scraper", [sys.executable, str(_PROGRAMS / "scraper.py"), "4507", "1", "1"], prefix)
        self._truth = Truth(lab.folder, _UNDER_WAY)
        self._stop = threading.Event()
        self._sampler = threading.Thread(target=self._sample_forever, name="samples")
        self._sampler.start()

    def run(self, seconds: float) -> Outcome:
        """Soak for so long, and say what was found."""
        try:
            self._truth.begin()
            books = self._books()
            end = self._began + seconds
            while (left := end - time.monotonic()) > 0:
                books = self._stretch(min(left, _STRETCH), books)
        except Exception as error:  # noqa: BLE001 - what was found until then is worth telling
            self._tell(traceback.format_exc())
            self.outcome.problems.append(f"ended after {time.monotonic() - self._began:.0f} s: {error!r}")
        finally:
            self._stop.set()
            self._sampler.join()
        self.outcome.seconds = time.monotonic() - self._began
        self._look_at_scrapes()
        self._look_at_log()
        return self.outcome

    # --- what is done ---

    def _stretch(self, seconds: float, before: Books) -> Books:
        """Do everything for a while, the master's restart in the middle, let it come to rest, and audit."""
        began = time.monotonic()
        end = began + max(0.0, seconds - _QUIET)
        argv = [self.lab.programs.python, str(_PROGRAMS / "pacer.py"), str(self.lab.config_dir), str(_PACE)]
        self.lab.start("pacer", argv, self._prefix)
        restarted = False
        for minion in itertools.cycle(_MINIONS):
            self._churn(minion)
            self._change_keys()
            self._rotate_log()
            if not restarted and time.monotonic() - began > (end - began) / 3:
                self._restart_master()
                restarted = True
            if time.monotonic() > end:
                break
        self.lab.stop("pacer")
        self._count_published()
        after = self._rest()
        audit = self._truth.audit(before, after)
        self.outcome.audits.append(audit)
        self._tell(f"{time.monotonic() - self._began:.0f} s: {audit}")
        return after

    def _churn(self, minion: str) -> None:
        self.lab.stop(minion)
        time.sleep(3)
        self.lab.restart(minion)
        self.outcome.done["minions stopped and started"] += 1
        time.sleep(5)

    def _change_keys(self) -> None:
        """Let strangers ask for a key, as the master notes it; what becomes of them the operator's program says."""
        for decision in ("--accept", "--reject"):
            stranger = next(self._strangers)
            pending = self.lab.folder / "pki" / "minions_pre"
            pending.mkdir(mode=0o700, exist_ok=True)
            (pending / stranger).write_text(GHOST_KEY)
            self._expect_keys()
            for option in (decision, "--delete"):
                program = str(self.lab.programs.bin_dir / "salt-key")
                self.exporter.run_beside(program, f"--config-dir={self.lab.config_dir}", "--yes", option, stranger)
                self._expect_keys()
                self.outcome.done[f"keys: salt-key {option}"] += 1

    def _expect_keys(self) -> None:
        truth = self._truth.keys()
        self._expect(
            lambda metrics: truth == {state: metrics.get("salt_keys", state=state) for state in truth},
            10,
            f"the keys are {truth}",
        )

    def _rotate_log(self) -> None:
        """As logrotate's `copytruncate`, for the exporter writes to what it was started with; then SIGHUP."""
        log = self.lab.log("exporter")
        reloaded = "salt_exporter_config_last_reload_success_timestamp_seconds"
        before = self.exporter.scrape().get(reloaded)
        self._old_logs.append(log.read_text())
        os.truncate(log, 0)
        self._process.send_signal(signal.SIGHUP)
        self._expect(lambda metrics: metrics.get(reloaded) > before, 10, "the configuration is reloaded")
        if "configuration reloaded" not in log.read_text():
            self.outcome.problems.append("after a rotation the log does not go on")
        self.outcome.done["logs rotated, with SIGHUP"] += 1

    def _restart_master(self) -> None:
        """End the master and start it again; until everybody is back nobody can know everything."""
        began = time.time()
        if next(self._killing):
            self.lab.kill("master")
            self.outcome.done["masters killed"] += 1
        else:
            self.lab.stop("master")
            self.outcome.done["masters stopped"] += 1
        self.lab.restart("master")
        self.lab.wait_master_ready()
        self._wait_until_watching()
        # What the master does at the very end it may not tell any more.
        self._truth.blind.append((began - 1, time.time() + 1))

    # --- what is looked at ---

    def _rest(self) -> Books:
        """Wait until everybody is back and nothing is in flight; return what the exporter says then."""
        self._expect(
            lambda metrics: (
                metrics.get("salt_jobs_in_flight") == 0
                and metrics.get("salt_presence_minions", state="present") == len(_MINIONS)
            ),
            _QUIET + _DEADLINE,
            "all minions are there and all jobs closed",
        )
        self._expect_keys()
        return self._books()

    def _books(self) -> Books:
        time.sleep(2)  # the journal has been written
        metrics = self.exporter.scrape()
        jobs = json.loads(self.exporter.get("/api/v1/jobs?limit=2000"))["jobs"]
        losses: dict[str, list[Mapping[str, Any]]] = {}
        for loss in json.loads(self.exporter.get("/api/v1/losses?since=10m&limit=100000"))["losses"]:
            losses.setdefault(loss["jid"], []).append(loss)
        return Books(metrics, {job["jid"]: job for job in jobs}, losses)

    def _wait_until_watching(self) -> None:
        """Wait until nothing that happens passes unseen: on the bus, and subscribed to the publish port."""
        self.exporter.wait(
            lambda metrics: (
                metrics.get("salt_exporter_eventbus_connected") == 1
                and metrics.get("salt_exporter_collector_success", collector="publish") == 1
            ),
            60,
            "the exporter watches",
        )

    def _expect(self, condition: Callable[[Metrics], bool], timeout: float, what: str) -> None:
        """Wait for something; note that it did not come about, and go on."""
        try:
            self.exporter.wait(condition, timeout, what)
        except AssertionError as error:
            self.outcome.problems.append(str(error).partition("\n")[0])
            self._tell(str(error))

    def _sample_forever(self) -> None:
        while not self._stop.wait(_SAMPLE):
            try:
                self.outcome.samples.append(self._sample())
            except Exception as error:  # noqa: BLE001 - told with all else that is wrong
                self.outcome.problems.append(f"no sample: {error!r}")

    def _sample(self) -> Sample:
        lines = self.exporter.get("/metrics").splitlines()
        # A cause that is found for the first time is a series of each function; there are so many causes, and no more.
        series = sum(line[:1] not in ("#", "") and 'cause="' not in line for line in lines)
        process = self._process
        with process.oneshot():
            memory, cpu = process.memory_info(), process.cpu_times()
            descriptors, threads = process.num_fds(), process.num_threads()
        used = cpu.user + cpu.system
        sample = Sample(time.monotonic() - self._began, memory.rss / 1e6, descriptors, threads, series, used)
        self._tell(str(sample))
        return sample

    def _count_published(self) -> None:
        said = [json.loads(line) for line in self.lab.log("pacer").read_text().splitlines() if line.startswith("{")]
        self.lab.log("pacer").write_text("")
        self.outcome.done["jobs published"] += sum("jid" in attempt for attempt in said)
        self.outcome.done["jobs that no master took"] += sum("error" in attempt for attempt in said)

    def _look_at_scrapes(self) -> None:
        self.lab.stop("scraper")
        lines = [line.split() for line in self.lab.log("scraper").read_text().splitlines()]
        scrapes = [(float(took), status) for took, status in filter(_is_scrape, lines)]
        self.outcome.done["scrapes"] = len(scrapes)
        failed = Counter(status for _, status in scrapes if status != "200")
        if failed or len(scrapes) < self.outcome.seconds / 3:
            self.outcome.problems.append(f"of {len(scrapes)} scrapes failed {failed}")
        self._tell(f"the slowest scrapes took {sorted((took for took, _ in scrapes), reverse=True)[:10]} s")

    def _look_at_log(self) -> None:
        log = "".join([*self._old_logs, self.lab.log("exporter").read_text()])
        self.outcome.problems += [line for line in log.splitlines() if "level=error" in line or "traceback" in line]


def _is_scrape(words: list[str]) -> bool:
    return len(words) == 2 and words[1].isdecimal()


def soak(programs: SaltPrograms, node: list[str], seconds: float, tell: Callable[[str], None]) -> Outcome:
    """Soak a new exporter beside a new master on a node, whose loopback interface is all that is used."""
    with closing(Cleaner()) as cleaner, tempfile.TemporaryDirectory() as state:
        lab = Lab(cleaner, programs, prefix=node)
        lab.start_master()
        lab.wait_master_ready()
        scene = Soak(lab, node, Path(state), tell)
        outcome = scene.run(seconds)
        scene.exporter.stop()
        return outcome


def facts(programs: SaltPrograms, outcome: Outcome) -> dict[str, object]:
    """Return what the numbers depend on."""
    model = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    slow = f"load average {os.getloadavg()[2]:.1f} over the last 15 minutes: it had other work, too"
    version = subprocess.run([programs.master, "--version"], capture_output=True, text=True, check=True).stdout
    return {
        "Machine": f"{os.cpu_count()} cores, {model.partition(': ')[2]}, {slow}",
        "Linux": platform.release(),
        "Python": platform.python_version(),
        "Salt": version.split()[1],
        "Time": f"{outcome.seconds / 60:.1f} minutes, {len(outcome.samples)} samples",
    }


def main() -> int:
    """Soak as the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.real.soak")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--salt", type=Path, required=True, help="folder of Salt's programs")
    parser.add_argument("--report", type=Path, required=True, help="Markdown file to write")
    options = parser.parse_args()
    programs = SaltPrograms(options.salt.absolute())
    delete_leftovers()
    with closing(Network()) as network:
        network.add(NODE)
        outcome = soak(programs, network.prefix(NODE), options.minutes * 60, lambda text: print(text, flush=True))  # noqa: T201 - for whoever looks
    failures = outcome.failures()
    options.report.write_text(
        _PAGE.format(minutes=options.minutes)
        + page(facts(programs, outcome), outcome.done, outcome.samples, outcome.audits)
    )
    for failure in failures:
        print("WRONG:", failure)  # noqa: T201 - for whoever looks
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
