"""Benchmark: which minions are not present."""

from __future__ import annotations

import json
import re
import sys
from contextlib import closing, contextmanager
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Final

from benchmarks.exporter import absent_minions
from benchmarks.measure import Contender, Row, Table, at_least, cpu_seconds, ratios, take_turns
from benchmarks.processes import Child, output
from salt_exporter.analysis.presence import NOT_PRESENT
from salt_exporter.config import Config
from salt_exporter.kernel.sock_diag import tcp_sockets
from salt_exporter.master import resolve
from salt_exporter.master.addresses import AddressIndex
from salt_exporter.master.keys import KeyStore
from salt_exporter.sampler import Sampler
from salt_exporter.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.exporter import Daemon
    from benchmarks.fleet import Fleet
    from salt_exporter.demo.lab import Lab
    from salt_exporter.master.addresses import Layout

_ROUNDS: Final = 5

_RUNNER: Final = "`salt-run manage.not_present`"
_IN_PROCESS: Final = "the same in a running process, with `CkMinions.connected_ids`"
_DAEMON: Final = "**the daemon's list, from the newest regular snapshot**"
_FRESH: Final = "**the daemon's list, with a fresh snapshot for it alone**"
_SCRAPE: Final = "the daemon's whole `/metrics`, over HTTP"
_FIRST: Final = "**`salt-exporter minions --absent`, first call ever**"
_COMMAND: Final = "**`salt-exporter minions --absent`, later calls**"
_LOAD: Final = "import salt_exporter.cli, salt_exporter.commands.minions"
_GOALS: Final = {_DAEMON: 200, _FRESH: 200, _FIRST: 10, _COMMAND: 10}


def presence(lab: Lab, fleet: Fleet, daemon: Daemon) -> Table:
    """Compare ways to list the fleet's absent minions, which must all give the same list."""
    states = (lab.folder / f"state-{number}" for number in count())
    state = lab.folder / "state"
    with closing(Child(lab.programs.python, "salt_presence", lab.config_dir)) as salt, _daemons_lists(lab) as lists:
        salt.wait_ready()
        series = take_turns(
            _ROUNDS,
            {
                _RUNNER: Contender(lambda: _runner(lab)),
                _IN_PROCESS: Contender(salt.ask, 3),
                _DAEMON: Contender(lists[0], 15),
                _FRESH: Contender(lists[1], 15),
                _SCRAPE: Contender(daemon.scrape, 15),
                _FIRST: Contender(lambda: absent_minions(lab, next(states))),
                _COMMAND: Contender(lambda: absent_minions(lab, state)),
            },
        )
    fleet.check()
    rows = []
    for name, one in series.items():
        if _ids(one.answer) != fleet.absent:
            raise RuntimeError(f"{name} gives another list than it should: {one.answer:.500}")
        faster = ratios(series[_RUNNER].seconds, one.seconds)
        goal = at_least(_GOALS[name], faster) if name in _GOALS else None
        rows.append(Row(name, faster, [second * 1e3 for second in one.seconds], goal))
    keys, connected = len(fleet.minions), len(fleet.cookies)
    smallest, largest = (size / 1000 for size in fleet.grains_bytes)
    return Table(
        f"Who is not present, of {keys:,} minions",
        f"A real master with {keys:,} accepted keys, as many cached grains of {smallest:.1f} to {largest:.1f} kB, and "
        f"{connected:,} subscribers. The daemon looks at keys and grains in the background, and takes a snapshot of "
        "the connections every few seconds, which scrapes share. The command has no daemon to ask and reads every "
        "file; its first call has to ask Salt for the master's options, too. All lists are equal.",
        "times as fast as `salt-run`",
        "ms",
        rows,
    )


def profile(lab: Lab, layout: Layout) -> Table:
    """Tell what the time of the command is spent on."""
    python, state = sys.executable, lab.folder / "profile"
    config_dir = str(lab.config_dir)
    salt = [lab.programs.python, "-I", resolve.__file__, config_dir, "id"]
    series = take_turns(
        _ROUNDS,
        {
            _COMMAND: Contender(lambda: absent_minions(lab, state)),
            "Python starts, and loads nothing": Contender(lambda: output([python, "-c", ""]), 3),
            "Python starts, and loads the command": Contender(lambda: output([python, "-c", _LOAD]), 3),
            "an index of all cached grains, in a running process": Contender(lambda: _index(lab, layout), 3),
            "the master's Python starts, loads Salt's configuration, and tells it": Contender(lambda: output(salt), 3),
        },
        cpu_seconds,
    )
    whole = series[_COMMAND].seconds
    return Table(
        "What the command's time is spent on",
        "CPU time. The first call ever has the last line's besides, which nothing but Salt's own start-up makes up: it "
        "is the limit of that call. Later ones, and all of them where the daemon has run, find what it told in the "
        "state directory, and believe it while no file behind it has changed.",
        "times a later call",
        "ms of CPU",
        [Row(name, ratios(one.seconds, whole), [s * 1e3 for s in one.seconds]) for name, one in series.items()],
    )


def _index(lab: Lab, layout: Layout) -> int:
    minions = KeyStore().read(lab.folder / "pki").accepted
    return len(AddressIndex().update(minions, lab.folder / "cache", layout).by_minion)


def _runner(lab: Lab) -> str:
    return output([lab.programs.runner, f"--config-dir={lab.config_dir}", "--out=json", "manage.not_present"])


@contextmanager
def _daemons_lists(lab: Lab) -> Iterator[tuple[Callable[[], str], Callable[[], str]]]:
    """Run what the daemon runs, in this process; yield how it lists absent minions, and how with a fresh snapshot."""
    world = World(Config(salt_config_dir=lab.config_dir, state_directory=lab.folder / "world"))
    regular = world.sampler
    fresh = Sampler(tcp_sockets, lambda: lab.ports, 0.0)  # never started, and what it knows is too old at once
    fresh.own = regular.own

    def absent(sampler: Sampler) -> str:
        world.rollcall.sampler = sampler
        return json.dumps(world.presence().minions(NOT_PRESENT))

    world.start()
    try:
        world.ready.wait()
        yield partial(absent, regular), partial(absent, fresh)
    finally:
        world.rollcall.sampler = regular
        world.stop()


def _ids(answer: str) -> list[str]:
    """Return the sorted ids in an answer: JSON, a list or a map by id, or metrics."""
    if answer.startswith("#"):
        return sorted(re.findall(r'^salt_presence_minion_not_present\{minion="([^"]+)"\} 1', answer, re.MULTILINE))
    return sorted(json.loads(answer))
