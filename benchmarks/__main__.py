"""Measure what the exporter costs, and print it: `python -m benchmarks`, from the repository's root.

With names of parts only these are measured; without, docs/performance.md is written.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.exporter import daemon
from benchmarks.fleet import fleet
from benchmarks.intake import intake
from benchmarks.presence import presence, profile
from benchmarks.processes import output
from benchmarks.rendering import rendering
from benchmarks.report import document, section
from benchmarks.sampling import sampling
from benchmarks.scrape import scrape
from benchmarks.snapshot import snapshot
from salt_exporter.demo.cleaner import Cleaner
from salt_exporter.demo.lab import Lab
from salt_exporter.demo.programs import SaltPrograms
from salt_exporter.master.addresses import layout_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.measure import Table
    from salt_exporter.master.addresses import Layout

_PAGE: Final = Path(__file__).parent.parent / "docs" / "performance.md"
_SALT_PORTS: Final = (14900, 14901)
_PARTS: Final = ("snapshot", "sampling", "presence", "intake", "rendering", "scrape")


def main() -> int:
    """Return 0 if every goal was met, else 1; measurements that went wrong raise."""
    options = _parser().parse_args()
    if unknown := set(options.parts) - set(_PARTS):
        sys.exit(f"there is no part {', '.join(sorted(unknown))}: choose from {', '.join(_PARTS)}")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed has its bytecode beside it
    programs = SaltPrograms(options.salt_bin.absolute()) if options.salt_bin else SaltPrograms.find()
    salt = output([programs.master, "--version"]).split()[1]
    measurements = _measurements(options, programs, layout_of(tuple(map(int, salt.split(".")))))
    tables = []
    for part in options.parts or _PARTS:
        for table in measurements[part]():
            print(section(table), flush=True)
            tables.append(table)
    if not options.parts:
        _PAGE.write_text(document(salt, tables), encoding="utf-8")
    return 0 if all(table.goals_met for table in tables) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(_PARTS)} (default: all, in this order)")
    parser.add_argument("--minions", type=int, default=5000, help="in `presence` (default: 5000)")
    parser.add_argument("--connections", type=int, default=20_000, help="in `snapshot` and `sampling` (default: 20000)")
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[1000, 5000, 20_000, 50_000],
        metavar="MINIONS",
        help="in `scrape`, in rising order (default: 1000 5000 20000 50000)",
    )
    parser.add_argument(
        "--salt-bin", type=Path, help="where salt-master and salt-run are (default: beside this Python)"
    )
    return parser


def _measurements(
    options: argparse.Namespace, programs: SaltPrograms, layout: Layout
) -> dict[str, Callable[[], Iterator[Table]]]:
    """Return what yields the tables of each part, as soon as they are there."""

    def who_is_present() -> Iterator[Table]:
        with _master(programs) as lab, fleet(lab, layout, options.minions) as minions, daemon(lab) as running:
            yield presence(lab, minions, running)
            yield profile(lab, layout)

    def scrapes() -> Iterator[Table]:
        with _master(programs) as lab:
            yield from scrape(lab, layout, options.sizes)

    return {
        "snapshot": lambda: iter([snapshot(options.connections)]),
        "sampling": lambda: iter([sampling(options.connections)]),
        "presence": who_is_present,
        "intake": lambda: intake(programs),
        "rendering": lambda: iter([rendering(options.connections)]),
        "scrape": scrapes,
    }


@contextmanager
def _master(programs: SaltPrograms) -> Iterator[Lab]:
    """Run a real master while the block lasts."""
    with closing(Cleaner()) as cleaner:
        lab = Lab(cleaner, programs, _SALT_PORTS)
        lab.start_master()
        lab.wait_master_ready()
        yield lab


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted: everything that was started has been stopped")
