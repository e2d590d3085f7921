"""The exporter as it runs for users, beside the master of a lab, and what it says."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

from prometheus_client.parser import text_string_to_metric_families

from tests.real import pace
from tests.real.fetch import FetchError, fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from salt_exporter.demo.lab import Lab

# Shorter than the defaults, so that tests need not wait; what they bound is the same.
_QUICK: Final = (
    *("--sampler.interval=500ms", "--presence.refresh=1s"),
    *("--probe.request-interval=1s", "--probe.request-timeout=1s"),
)
DEADLINE: Final = 6  # seconds on an idle machine, see pace.py

_SHARED = 4  # times as long anything may take on a machine that others use too


def quick_settings(deadline: float) -> tuple[str, ...]:
    """Return settings for a test that is quick, with the deadline (seconds) of jobs; some functions have another."""
    deadlines = f"test.echo=10s,test.cross_test={round(2.5 * deadline)}s,test.storm=2m"
    return (*_QUICK, f"--jobs.deadline={round(deadline)}s", f"--jobs.deadlines={deadlines}")


class Metrics:
    """One scrape."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._parsed: dict[str, dict[frozenset[tuple[str, str]], float]] = {}

    def _series(self, name: str) -> dict[frozenset[tuple[str, str]], float]:
        """Return the values of a metric by labels; only its lines are parsed, for there are thousands of others."""
        if name not in self._parsed:
            lines = re.findall(rf"^{name}[{{ ].*$", self.text, re.MULTILINE)
            self._parsed[name] = {
                frozenset(sample.labels.items()): sample.value
                for family in text_string_to_metric_families("\n".join([*lines, ""]))
                for sample in family.samples
            }
        return self._parsed[name]

    def get(self, name: str, default: float | None = None, **labels: str) -> float:
        """Return the value of one series; KeyError if it is not there and there is no default."""
        key, series = frozenset(labels.items()), self._series(name)
        if default is None and key not in series:
            raise KeyError(name, labels)
        return series.get(key, default or 0.0)

    def labels(self, name: str, label: str) -> list[str]:
        """Return the sorted values of a label over all series of a metric."""
        return sorted(dict(labels)[label] for labels in self._series(name))

    def counters(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """Yield name, labels and value of every counter."""
        for name in sorted(set(re.findall(r"^\w+_total(?=[{ ])", self.text, re.MULTILINE))):
            for labels, value in self._series(name).items():
                yield name, dict(labels), value

    def by(self, name: str, *names: str) -> dict[tuple[str, ...], float]:
        """Return the values of a metric by the values of these labels, summed over the others."""
        found: dict[tuple[str, ...], float] = {}
        for labels, value in self._series(name).items():
            key = tuple(dict(labels)[label] for label in names)
            found[key] = found.get(key, 0.0) + value
        return found


class Exporter:
    """The daemon and the commands, run in the network namespace of the master."""

    def __init__(
        self,
        lab: Lab,
        prefix: Sequence[str],
        state: Path,
        port: int = 4507,
        settings: Sequence[str] | None = None,
        more: Sequence[str] = (),
        host: str = "127.0.0.1",
    ) -> None:
        self.deadline = pace.deadline(DEADLINE)  # seconds, of jobs whose function has no other
        self.url = f"http://{host}:{port}"
        self._lab = lab
        self._prefix = list(prefix)
        self._config = [f"--salt.config-dir={lab.config_dir}", f"--state.directory={state}"]
        self._config.append("--config.file=/dev/null")  # not this machine's
        address = f"--web.listen-address={host}:{port}"
        program = [sys.executable, "-m", "salt_exporter"]
        settings = (*(quick_settings(self.deadline) if settings is None else settings), *more)
        lab.start("exporter", [*program, "serve", *self._config, *settings, address], prefix)
        lab.wait("exporter", self.is_ready, 30)

    def stop(self) -> None:
        """End the daemon as an operator would."""
        self._lab.stop("exporter")

    def scrape(self) -> Metrics:
        """Return what Prometheus would get now."""
        return Metrics(self.get("/metrics"))

    def get(self, path: str, url: str = "") -> str:
        """Return the body of a page, by default one of the exporter's. Raises FetchError."""
        return fetch((url or self.url) + path, self._prefix)

    def command(self, *arguments: str) -> str:
        """Return what a command of the exporter prints, whatever its exit status."""
        return self.run_beside(sys.executable, "-m", "salt_exporter", *arguments, *self._config, check=False)

    def run_beside(self, *argv: str, stdin: str = "", check: bool = True) -> str:
        """Run a program in the master's network namespace and return its standard output."""
        done = subprocess.run(
            [*self._prefix, *argv], input=stdin, capture_output=True, text=True, check=check, timeout=60
        )
        return done.stdout

    def wait(self, condition: Callable[[Metrics], bool], timeout: float, what: str) -> Metrics:
        """Scrape until a condition holds; AssertionError with the last scrape if it does not in time.

        `timeout` is in seconds of a machine that nobody else uses.
        """
        deadline = time.monotonic() + _SHARED * timeout
        while not condition(metrics := self.scrape()):
            if time.monotonic() > deadline:
                raise AssertionError(f"not after {timeout:.0f} s: {what}\n{metrics.text}")
            time.sleep(0.3)
        return metrics

    def is_ready(self) -> bool:
        """Tell whether it answers, and has looked at the master."""
        try:
            return "is ready" in self.get("/-/ready")
        except FetchError:
            return False
