"""Benchmark: the whole daemon beside masters of several sizes: scrapes, what they hold up, memory, CPU."""

from __future__ import annotations

import threading
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import TYPE_CHECKING, Final

from benchmarks.bus import accepted, listening
from benchmarks.events import empty_return, job_new
from benchmarks.exporter import daemon
from benchmarks.fleet import fleet
from benchmarks.measure import Goal, Row, Table, at_most, quietest
from benchmarks.memory import memory
from benchmarks.processes import Child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.bus import Bus
    from benchmarks.exporter import Daemon
    from benchmarks.fleet import Fleet
    from salt_exporter.demo.lab import Lab
    from salt_exporter.master.addresses import Layout

_SCRAPES: Final = 80
_ROUNDS: Final = 2  # of these
_SOME: Final = 10
_PAUSE: Final = 0.1  # seconds between scrapes
_REST: Final = 12.0  # seconds
_USUAL_UP_TO: Final = 5000  # minions; beyond, the usual way takes too long
_USUAL_ROUNDS: Final = 3
_JOBS: Final = 100  # in flight
_STORM: Final = 2000  # returns a second: about as many as a master's event publisher gets rid of
_STORM_SECONDS: Final = 10
_BEAT: Final = 0.005  # seconds between looks at what holds somebody up
_GOAL_SIZE: Final = 20_000  # minions at which scrapes have goals
_SCRAPE_MS: Final = 100  # p99
_HOLD_MS: Final = 20
_RESTING: Final = {1000: 1, 20_000: 5}  # % of a core, by minions


@dataclass(slots=True)
class Figures:
    """What was measured at one size."""

    scrapes: list[float] = field(default_factory=list)  # seconds
    scrape_cpu: float = 0.0  # seconds of CPU time for one
    usual: list[float] = field(default_factory=list)  # seconds
    quiet: dict[str, list[float]] = field(default_factory=dict)  # seconds somebody waited, while nobody scrapes
    scraped: dict[str, list[float]] = field(default_factory=dict)  # the same, while somebody does
    resting: float = 0.0  # % of a core
    storm: float = 0.0  # % of a core
    resident: int = 0  # bytes
    resident_with_jobs: int = 0  # bytes


_BUS: Final = "an event on the bus, until it is read"
_HTTP: Final = "a request that needs no work (`/-/healthy`)"
_SLEEP: Final = "the benchmark's own waking up, which has nothing to do with the daemon"


def scrape(lab: Lab, layout: Layout, sizes: Sequence[int]) -> Iterator[Table]:
    """Measure the daemon beside the lab's master with fleets of these sizes, in rising order."""
    found = {}
    for number in sizes:
        with fleet(lab, layout, number) as minions, listening(lab.folder / "run") as listener, daemon(lab) as running:
            with accepted(listener) as bus:
                found[number] = _figures(lab, minions, running, bus)
            minions.check()
    yield _scrapes(found)
    yield _holds(found)
    yield _cpu(found)
    yield memory(
        lab.programs.python,
        {number: one.resident for number, one in found.items()},
        {number: one.resident_with_jobs for number, one in found.items()},
        _JOBS,
    )


def _figures(lab: Lab, minions: Fleet, running: Daemon, bus: Bus) -> Figures:
    found = Figures()
    if len(minions.absent) != running.value('salt_presence_minions{state="not_present"}'):
        raise RuntimeError("the daemon finds others absent than it should")
    found.resting = running.cpu_percent(lambda: time.sleep(_REST))
    found.scrapes = quietest(_ROUNDS, lambda: list(_scrape(running)))
    found.quiet = _waits(running, bus, lambda: time.sleep(_SCRAPES * _PAUSE))
    found.scraped = quietest(_ROUNDS, lambda: _waits(running, bus, lambda: list(_scrape(running))))
    found.scrape_cpu = running.cpu_seconds(lambda: _scrape_some(running)) / _SOME
    found.resident = running.resident_bytes()
    for job in range(_JOBS):
        bus.send(job_new(job, minions.minions))
    while running.value("salt_jobs_in_flight") < _JOBS:
        time.sleep(1)
    _scrape_some(running)
    time.sleep(_REST)  # no master publishes so many within a second: what that took is given back
    found.resident_with_jobs = running.resident_bytes()
    found.storm = running.cpu_percent(lambda: _storm(minions, bus))
    if len(minions.minions) <= _USUAL_UP_TO:
        found.usual = _usual(lab)
    return found


def _scrape(running: Daemon) -> Iterator[float]:
    for _ in range(_SCRAPES):
        started = time.monotonic()
        running.scrape()
        yield time.monotonic() - started
        time.sleep(_PAUSE)


def _scrape_some(running: Daemon) -> None:
    for _ in range(_SOME):
        running.scrape()


def _storm(minions: Fleet, bus: Bus) -> None:
    """Let minions return, to one job after another, at a steady pace."""
    steps = round(_STORM_SECONDS / _BEAT)
    share = _STORM * _STORM_SECONDS // steps
    number = len(minions.minions)
    started = time.monotonic()
    for step in range(steps):
        returns = (divmod(index, number) for index in range(step * share, (step + 1) * share))
        bus.send(b"".join(empty_return(job, minions.minions[minion]) for job, minion in returns))
        time.sleep(max(0.0, started + step * _BEAT - time.monotonic()))


def _usual(lab: Lab) -> list[float]:
    """Return how long an exporter would take that is put together from what there is."""
    seconds = []
    with closing(Child(lab.programs.python, "usual", lab.config_dir, *lab.ports)) as usual:
        usual.wait_ready()
        for _ in range(_USUAL_ROUNDS):
            started = time.monotonic()
            usual.ask()
            seconds.append(time.monotonic() - started)
    return seconds


def _waits(running: Daemon, bus: Bus, action: Callable[[], object]) -> dict[str, list[float]]:
    """Return how many seconds others have to wait, again and again, while something is done."""
    event = empty_return(0, "minion-00001")
    with (
        running.kept_alive() as ask,
        _repeated(lambda: bus.pick_up(event)) as bus_waits,
        _repeated(ask) as http_waits,
        _repeated(_oversleep) as own_waits,
    ):
        action()
    return {_BUS: bus_waits, _HTTP: http_waits, _SLEEP: own_waits}


def _oversleep() -> float:
    """Return by how many seconds a short sleep is too long: what the machine does to everybody."""
    started = time.monotonic()
    time.sleep(_BEAT)
    return time.monotonic() - started - _BEAT


@contextmanager
def _repeated(measure: Callable[[], float]) -> Iterator[list[float]]:
    """Measure in a thread of its own until the block ends; yield the list that fills."""
    found: list[float] = []
    end = threading.Event()

    def repeat() -> None:
        while not end.wait(_BEAT):
            found.append(measure())

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield found
    finally:
        end.set()
        thread.join()


# --- tables ---


def _scrapes(found: dict[int, Figures]) -> Table:
    rows = []
    for number, one in found.items():
        ms = [seconds * 1e3 for seconds in one.scrapes]
        p99 = _p99(ms)
        goal = None
        if number == _GOAL_SIZE:
            goal = Goal(f"p99 ≤ {_SCRAPE_MS} ms, is {p99:.0f}", p99 <= _SCRAPE_MS)
        faster = [median(one.usual) / median(one.scrapes)] if one.usual else []
        name = f"**the daemon at {number:,} minions** ({one.scrape_cpu * 1e3:.0f} ms of CPU, p99 {p99:.0f} ms)"
        rows.append(Row(name, faster, ms, goal))
        if one.usual:
            rows.append(Row(f"the usual way at {number:,}", [1.0], [seconds * 1e3 for seconds in one.usual]))
    return Table(
        "A whole scrape",
        f"{_SCRAPES} times `/metrics` with the default series over HTTP, ten times a second or as fast as it goes, in "
        f"that of {_ROUNDS} rounds in which the host of this virtual machine took the least from it (steal time), "
        "beside a real master: of its minions 5,000 subscribe to its publisher, the rest are connected to its port at "
        "other addresses. The usual way: psutil, Salt's own presence and prometheus_client in one process that keeps "
        "running.",
        "times as fast as the usual way",
        "ms",
        rows,
    )


def _holds(found: dict[int, Figures]) -> Table:
    rows = []
    for number, one in found.items():
        for what, waits in one.scraped.items():
            ms, quiet = ([seconds * 1e3 for seconds in item] for item in (waits, one.quiet[what]))
            p99 = _p99(ms)
            goal = None
            if number == _GOAL_SIZE and what == _BUS:
                goal = Goal(f"p99 ≤ {_HOLD_MS} ms, is {p99:.1f}", p99 <= _HOLD_MS)
            rows.append(Row(f"{what}, at {number:,} minions (p99 {p99:.1f} ms)", [p99 / _p99(quiet)], ms, goal))
            rows.append(Row(f"the same while nobody scrapes (p99 {_p99(quiet):.1f} ms)", [1.0], quiet))
    return Table(
        "Waits during scrapes",
        "How long others have to wait for the daemon while it is scraped as above, asking every 5 ms, and as long "
        "without scrapes; the ratios are of the 99th percentiles. This is seen from outside: what the machine does "
        "besides is in it, as the benchmark's own waking up shows.",
        "times without scrapes",
        "ms",
        rows,
    )


def _p99(values: Sequence[float]) -> float:
    return quantiles(values, n=100)[98]


def _cpu(found: dict[int, Figures]) -> Table:
    rows = []
    for number, one in found.items():
        goal = at_most(_RESTING[number], [one.resting], " %") if number in _RESTING else None
        rows.append(Row(f"**at rest, {number:,} minions**", [1.0], [one.resting], goal))
        rows.append(Row(f"**job storm, {number:,} minions**", [one.storm / one.resting], [one.storm]))
    return Table(
        "CPU of the daemon",
        f"User and system time with default settings. At rest: {_REST:.0f} seconds in which nobody scrapes and nothing "
        f"is published. Job storm: {_STORM:,} returns a second for {_STORM_SECONDS} seconds, to {_JOBS} jobs in flight "
        "that name every minion.",
        "times at rest",
        "% of a core",
        rows,
    )
