"""Benchmark: reading events off the master's bus."""

from __future__ import annotations

import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.bus import NAME, accepted, listening
from benchmarks.events import command_return, state_return
from benchmarks.measure import Row, Table, at_most, ratios
from benchmarks.processes import Child

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Sequence

    from salt_exporter.demo.programs import SaltPrograms

_ROUNDS: Final = 5
_DISTINCT: Final = 100  # events, repeated until there are enough
_BURST: Final = 50_000
_LAG: Final = 1.0  # second

_FLOOR: Final = "lengths read, bodies cut out, nothing looked at"
_OURS: Final = "**the exporter: `BusReader`, `Intake` and the job ledger**"
_FULL: Final = "msgpack, everything decoded"
_SALT: Final = "Salt's own event client, `get_event`"


def intake(programs: SaltPrograms) -> Iterator[Table]:
    """Compare ways to read small and large returns, and how far behind a burst leaves them."""
    with tempfile.TemporaryDirectory(prefix="salt-exporter-") as name, listening(Path(name)) as listener:
        compare = _Comparison(programs, Path(name), listener)
        yield compare.rates("small returns", command_return, 10_000, 2000, 50_000)
        yield compare.rates("returns of states", state_return, 1000, 500, 15_000)
        yield compare.lag()


class _Comparison:
    """Readers of one bus, each in a process of its own."""

    def __init__(self, programs: SaltPrograms, folder: Path, listener: socket.socket) -> None:
        self._listener = listener
        (folder / "master").write_text(f"sock_dir: {folder}\nlog_file: {folder}/log\n")
        path = folder / NAME
        self._readers: dict[str, Sequence[object]] = {
            _FLOOR: (sys.executable, "reader", "frames", path),
            _OURS: (sys.executable, "reader", "exporter", path),
            _FULL: (sys.executable, "reader", "unpack", path),
            _SALT: (programs.python, "salt_reader", folder),
        }

    def rates(
        self, kind: str, make: Callable[[int], bytes], number: int, number_for_salt: int, goal_rate: float
    ) -> Table:
        """Compare how fast events of one kind are read; all must be."""
        events = [make(which) for which in range(_DISTINCT)]
        micros: dict[str, list[float]] = {name: [] for name in self._readers}
        for _ in range(_ROUNDS):
            for name, seconds in micros.items():
                some = number_for_salt if name == _SALT else number
                _lag, cpu_seconds = self._burst(name, events, some)
                seconds.append(cpu_seconds / some * 1e6)
        goal = at_most(round(1e6 / goal_rate), micros[_OURS], f" µs ({goal_rate:,.0f}/s)")
        rows = [
            Row(name, ratios(values, micros[_FLOOR]), values, goal if name == _OURS else None)
            for name, values in micros.items()
        ]
        return Table(
            f"Event intake: {kind}",
            f"{number:,} events of {len(events[0]) / 1000:.1f} kB as Salt 3007 and 3008 send them ({number_for_salt:,} "
            "for Salt's client), written to a unix socket at once; each reader in a process of its own, and none loses "
            "any. CPU time of the reader, the kernel's for it included: what a core that is free takes.",
            "times the floor",
            "µs of CPU per event",
            rows,
        )

    def lag(self) -> Table:
        """Tell how long after a burst its last event has been read."""
        events = [command_return(which) for which in range(_DISTINCT)]
        lags: dict[str, list[float]] = {_OURS: [], _FULL: []}
        for _ in range(_ROUNDS):
            for name, seconds in lags.items():
                seconds.append(self._burst(name, events, _BURST)[0] * 1000)
        goal = at_most(_LAG * 1000, lags[_OURS], " ms")
        return Table(
            f"Lag behind a burst of {_BURST:,} events",
            "From the moment the master is rid of the last of these events, of 1 kB each, until it has been read; none "
            "is lost. The exporter receives in one thread and decodes in another, so the master is rid of them sooner.",
            "times ours",
            "ms",
            [
                Row(name, ratios(values, lags[_OURS]), values, goal if name == _OURS else None)
                for name, values in lags.items()
            ],
        )

    def _burst(self, name: str, events: Sequence[bytes], number: int) -> tuple[float, float]:
        """Have one reader read so many events; return by how much it was behind at their end, and its CPU time."""
        python, program, *arguments = self._readers[name]
        stream = b"".join(events) * (number // len(events))
        with closing(Child(str(python), str(program), *arguments)) as reader, accepted(self._listener) as bus:
            reader.wait_ready()
            with ThreadPoolExecutor(1) as sender:
                sending = sender.submit(bus.send, stream)
                read, lost, cpu_seconds = reader.ask(f"{number}").split()
                lag = time.monotonic() - sending.result()
        if (int(read), int(lost)) != (number, 0):
            raise RuntimeError(f"{name} has read {read} of {number} events, and lost {lost}")
        return lag, float(cpu_seconds)
