"""Measure everything, print it and write docs/performance.md: `python -m benchmarks`, from the repository's root."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.exporter import daemon
from benchmarks.fleet import fleet
from benchmarks.intake import intake
from benchmarks.memory import memory, resident_bytes
from benchmarks.presence import presence
from benchmarks.processes import output
from benchmarks.report import document, section
from benchmarks.sampling import sampling
from benchmarks.snapshot import snapshot
from salt_exporter.demo.cleaner import Cleaner
from salt_exporter.demo.lab import Lab
from salt_exporter.demo.programs import SaltPrograms
from salt_exporter.master.addresses import layout_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.measure import Table

_PAGE: Final = Path(__file__).parent.parent / "docs" / "performance.md"
_SALT_PORTS: Final = (14900, 14901)
_SMALL: Final = 5  # minions


def main() -> int:
    """Return 0 if every goal was met, else 1; measurements that went wrong raise."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--minions", type=int, default=5000, help="of the large master (default: 5000)")
    parser.add_argument("--connections", type=int, default=20_000, help="in the snapshot (default: 20000)")
    parser.add_argument(
        "--salt-bin", type=Path, help="where salt-master and salt-run are (default: beside this Python)"
    )
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed has its bytecode beside it
    programs = SaltPrograms(options.salt_bin.absolute()) if options.salt_bin else SaltPrograms.find()
    salt = _version(programs)
    tables = []
    for table in _measure(programs, salt, options.minions, options.connections):
        print(section(table), flush=True)
        tables.append(table)
    _PAGE.write_text(document(salt, tables), encoding="utf-8")
    return 0 if all(table.goals_met for table in tables) else 1


def _measure(programs: SaltPrograms, salt: str, minions: int, connections: int) -> Iterator[Table]:
    """Yield each result as soon as it is there."""
    yield snapshot(connections)
    yield sampling(connections)
    with closing(Cleaner()) as cleaner:
        lab = Lab(cleaner, programs, _SALT_PORTS)
        lab.start_master()
        lab.wait_master_ready()
        layout = layout_of(tuple(map(int, salt.split("."))))
        with fleet(lab, layout, _SMALL), daemon(lab) as running:
            sizes = {_SMALL: resident_bytes(running)}
        with fleet(lab, layout, minions) as large, daemon(lab) as running:
            yield presence(lab, large, running)
            sizes[minions] = resident_bytes(running)
    yield memory(programs.python, sizes)
    yield from intake()


def _version(programs: SaltPrograms) -> str:
    return output([programs.master, "--version"]).split()[1]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted: everything that was started has been stopped")
