"""Count what one scrape is made of, by the number of minions, and write the table into docs/scaling.md.

`python -m benchmarks.series`, from the repository's root. A real master, and minions as in fleet.py, of which none
runs: what a scrape costs Prometheus depends on how many there are and how many are absent, not on what they do. Listens
on loopback only and removes all it made.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.exporter import daemon
from benchmarks.fleet import fleet
from benchmarks.processes import output
from salt_exporter.demo.cleaner import Cleaner
from salt_exporter.demo.lab import Lab
from salt_exporter.demo.programs import SaltPrograms
from salt_exporter.exposition import compress
from salt_exporter.kernel.inet_diag import ESTABLISHED
from salt_exporter.kernel.sock_diag import tcp_sockets
from salt_exporter.master.addresses import layout_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.exporter import Daemon
    from salt_exporter.master.addresses import Layout

_PAGE: Final = Path(__file__).parent.parent / "docs" / "scaling.md"
_BEGIN, _END = "<!-- Written by `python -m benchmarks.series`: -->", "<!-- Until here. -->"
_PORTS: Final = (14910, 14911)
# Accepted minions, and how many of them are absent.
_FLEETS: Final = ((0, 0), (1000, 0), (1000, 100), (5000, 0), (5000, 500), (20_000, 0), (20_000, 2000))
_PATIENCE: Final = 60.0  # seconds for the master to see that all have left
_ALL: Final = "--presence.all-minions"


@dataclass(frozen=True, slots=True)
class Scrape:
    """What one answer of /metrics is made of."""

    series: int
    text: int  # bytes
    gzip: int  # bytes, as the exporter compresses

    @classmethod
    def of(cls, running: Daemon) -> Scrape:
        """Scrape twice and measure the second: the first one finds some counters not begun."""
        running.scrape()
        text = running.scrape()
        series = sum(len(family.samples) for family in text_string_to_metric_families(text))
        return cls(series, len(text.encode()), len(compress(text.encode())))


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.series", description=__doc__)
    parser.add_argument("--salt-bin", type=Path, help="where salt-master is (default: beside this Python)")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    programs = SaltPrograms(options.salt_bin.absolute()) if options.salt_bin else SaltPrograms.find()
    table = _table(programs)
    print(table)
    page = _PAGE.read_text(encoding="utf-8")
    pattern = re.compile(f"({re.escape(_BEGIN)}\n).*({re.escape(_END)})", re.DOTALL)
    if not pattern.search(page):
        sys.exit(f"{_PAGE} has no place for the table")
    _PAGE.write_text(pattern.sub(lambda match: f"{match[1]}\n{table}\n\n{match[2]}", page), encoding="utf-8")


def _table(programs: SaltPrograms) -> str:
    salt = output([programs.master, "--version"]).split()[1]
    layout = layout_of(tuple(map(int, salt.split("."))))
    lines = [
        "| accepted minions | absent | setting | series | text | gzip |",
        "| ---: | ---: | --- | ---: | ---: | ---: |",
    ]
    with closing(Cleaner()) as cleaner:
        lab = Lab(cleaner, programs, _PORTS)
        lab.start_master()
        lab.wait_master_ready()
        for minions, absent in _FLEETS:
            with _minions(lab, layout, minions, minions // absent if absent else 0):
                for setting in ("", _ALL) if absent else ("",):
                    with daemon(lab, *filter(None, [setting])) as running:
                        lines.append(_line(minions, absent, setting, Scrape.of(running)))
                        print(lines[-1], file=sys.stderr, flush=True)
        with daemon(lab) as running:
            before = Scrape.of(running)
            lab.salt("minion-00001", "test.ping")  # which is gone by now
            after = Scrape.of(running)
    lines += ["", f"Each function of the jobs adds {after.series - before.series} series (Salt {salt})."]
    return "\n".join(lines)


@contextmanager
def _minions(lab: Lab, layout: Layout, number: int, away: int) -> Iterator[None]:
    """Give the master its minions, if there are to be any."""
    if not number:
        yield
        return
    with fleet(lab, layout, number, away) as connected:
        yield
        connected.check()
    deadline = time.monotonic() + _PATIENCE
    while tcp_sockets((connected.port,), states=1 << ESTABLISHED).connections and time.monotonic() < deadline:
        time.sleep(0.2)  # the next fleet counts its own


def _line(minions: int, absent: int, setting: str, scrape: Scrape) -> str:
    shown = f"`{setting}`" if setting else "default"
    cells = (
        f"{minions:,}",
        f"{absent:,}",
        shown,
        f"{scrape.series:,}",
        _kilobytes(scrape.text),
        _kilobytes(scrape.gzip),
    )
    return f"| {' | '.join(cells)} |"


def _kilobytes(size: int) -> str:
    return f"{size / 1000:,.0f} kB"


if __name__ == "__main__":
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted: everything that was started has been stopped")
