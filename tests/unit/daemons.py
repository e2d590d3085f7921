"""The daemon as a real process, for tests to signal, scrape and attack."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

START = 60.0  # seconds that a start may take on a busy machine; nobody waits longer than needed
PATIENCE = 60.0

# What the interpreter runs first: on SIGUSR1 the daemon tells which modules it has loaded.
TELL_MODULES = """
import os, signal, sys

def tell(*_):
    with open(os.environ["MODULES_FILE"] + ".new", "w") as file:
        file.write("\\n".join(sys.modules))
    os.replace(os.environ["MODULES_FILE"] + ".new", os.environ["MODULES_FILE"])

signal.signal(signal.SIGUSR1, tell)
"""


def eventually(look: Callable[[], object], seconds: float = PATIENCE) -> bool:
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not look():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


class Daemon:
    """A daemon of its own, started as operators start it, with a log to look into."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        config_dir: Path,
        prefix: tuple[str, ...] = (),
        environ: Mapping[str, str] | None = None,
        at_start: str = "",
    ) -> None:
        """Take `at_start`, what the interpreter runs before the daemon."""
        folder.mkdir()
        self.folder = folder
        (folder / "sitecustomize.py").write_text(TELL_MODULES + at_start)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SALT_EXPORTER_")}
        environment |= {"PYTHONPATH": str(folder), "MODULES_FILE": str(folder / "modules")} | {**(environ or {})}
        no_settings_of_this_machine = () if "--config.file" in arguments else ("--config.file", "/dev/null")
        # fmt: off
        command = [
            *prefix, sys.executable, "-m", "salt_exporter", "serve",
            "--web.listen-address", "127.0.0.1:0",
            "--salt.config-dir", str(config_dir),
            "--state.directory", str(folder / "state"),
            "--presence.refresh", "1s",
            *no_settings_of_this_machine,
            *arguments,
        ]
        # fmt: on
        with (folder / "log").open("wb") as file:
            self.process = subprocess.Popen(command, env=environment, stderr=file, stdin=subprocess.DEVNULL)
        self.port = 0

    def await_start(self) -> Daemon:
        """Return when it serves."""
        pattern = re.compile(r"listening on https?://127\.0\.0\.1:(\d+)/")
        assert eventually(lambda: pattern.search(self.log()) or self.ended, START)
        listening = pattern.search(self.log())
        assert listening, self.log()
        self.port = int(listening[1])
        return self

    def log(self) -> str:
        """Return all log lines so far."""
        return (self.folder / "log").read_text()

    def complaints(self) -> list[str]:
        """Return the warnings and errors so far, without their time."""
        return [
            line.partition(" ")[2] for line in self.log().splitlines() if re.search(r" level=(warning|error) ", line)
        ]

    @property
    def ended(self) -> bool:
        """Tell whether the process has ended."""
        return self.process.poll() is not None

    def get(self, path: str = "/metrics", timeout: str = "8") -> tuple[int, str]:
        """Return status and body of a page."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)) as connection:
            connection.request("GET", path, headers={"X-Prometheus-Scrape-Timeout-Seconds": timeout})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def metrics(self, timeout: str = "8") -> dict[str, float]:
        """Return the value of every series of a scrape, by name and label values."""
        return {
            " ".join((sample.name, *sample.labels.values())): sample.value
            for family in text_string_to_metric_families(self.get(timeout=timeout)[1])
            for sample in family.samples
        }

    def success(self, timeout: str = "8") -> dict[str, bool]:
        """Return the success of each collector at a scrape."""
        prefix = "salt_exporter_collector_success "
        found = self.metrics(timeout)
        return {name.removeprefix(prefix): value == 1 for name, value in found.items() if name.startswith(prefix)}

    def is_ready(self) -> bool:
        """Tell whether it has looked at the master."""
        return self.get("/-/ready")[0] == 200

    def kill(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def modules(self) -> set[str]:
        """Return the names of the modules that the running process has loaded."""
        file = self.folder / "modules"
        self.kill(signal.SIGUSR1)
        assert eventually(file.exists, START)
        return set(file.read_text().split())


def config_dir(folder: Path) -> Path:
    """Make the config dir of a master that does not run, whose files are all below `folder`; return it."""
    (folder / "etc").mkdir(parents=True)
    (folder / "etc/master").write_text(f"root_dir: {folder}\npublish_port: 14810\nret_port: 14811\nid: here\n")
    for state in ("minions", "minions_pre", "minions_rejected", "minions_denied"):
        (folder / "etc/salt/pki/master" / state).mkdir(parents=True)
    (folder / "etc/salt/pki/master/minions/one").touch()
    return folder / "etc"
