"""Several masters with an exporter beside each, and a Prometheus that scrapes all of them with the shipped rules."""

from __future__ import annotations

import json
import shutil
import time
import urllib.parse
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import yaml

from salt_exporter.demo.cleaner import Cleaner
from salt_exporter.demo.lab import Lab
from salt_exporter.demo.salt_config import autosign_file
from tests.alerts.rules import RULES
from tests.real.exporter import Exporter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.real.conftest import SaltLine
    from tests.real.namespaces import Network

_PORT: Final = 4507
_PROMETHEUS: Final = "http://127.0.0.1:9090"


class Master(NamedTuple):
    """A master on a node of its own."""

    address: str
    lab: Lab
    prefix: tuple[str, ...]

    @property
    def instance(self) -> str:
        """The label under which Prometheus knows the exporter beside it."""
        return f"{self.address}:{_PORT}"

    def exporter(self, folder: Path, *settings: str) -> Exporter:
        """Start the exporter beside the master."""
        state = folder / self.instance
        return Exporter(self.lab, self.prefix, state, _PORT, more=settings, host=self.address)

    def accept(self, minion: str) -> None:
        """Let the master accept the key of a minion that another master's lab starts."""
        with autosign_file(self.lab.folder).open("a") as accepted:
            accepted.write(f"{minion}\n")


class Masters:
    """Starts masters and ends all that was started with them."""

    def __init__(self, network: Network, line: SaltLine, addresses: Mapping[str, str]) -> None:
        """`addresses` of all nodes, by name; they are added to the network."""
        self._network = network
        self._line = line
        self._addresses = addresses
        self._stack = ExitStack()
        for node, address in addresses.items():
            network.add(node, f"{address}/24")

    def master(self, node: str, options: Mapping[str, object]) -> Master:
        """Prepare a master; `lab.start_master` starts it."""
        address, prefix = self._addresses[node], tuple(self._network.prefix(node))
        cleaner = self._stack.enter_context(closing(Cleaner()))
        quick = {"interface": address, "id": node, "timeout": 2, "gather_job_timeout": 2, "worker_threads": 2}
        return Master(address, Lab(cleaner, self._line.programs, options=quick | dict(options), prefix=prefix), prefix)

    def close(self) -> None:
        """End everything."""
        self._stack.close()


class Prometheus:
    """Prometheus beside one master, scraping the exporters of several every second; no alert waits."""

    def __init__(self, exporter: Exporter, beside: Master, masters: list[Master], folder: Path) -> None:
        """Start it; `exporter` is the one beside the same master."""
        self._exporter = exporter
        rules = yaml.safe_load(RULES.read_text(encoding="utf-8"))
        for rule in (rule for group in rules["groups"] for rule in group["rules"] if "for" in rule):
            rule["for"] = "1s"
        targets = [{"targets": [master.instance for master in masters]}]
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yml"],
            "scrape_configs": [{"job_name": "salt", "static_configs": targets}],
        }
        for name, document in {"rules": rules, "prometheus": config}.items():
            (folder / f"{name}.yml").write_text(yaml.safe_dump(document))
        argv = [
            shutil.which("prometheus") or "prometheus",
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/tsdb",
            "--web.listen-address=127.0.0.1:9090",
        ]
        beside.lab.start("prometheus", argv, beside.prefix)
        beside.lab.wait("prometheus", lambda: self._scrapes(len(masters)), 40)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the result of an instant query."""
        path = f"/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        answer = json.loads(self._exporter.get(path, _PROMETHEUS))
        assert "success" == answer["status"]
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def firing(self, alert: str, label: str) -> set[str]:
        """Return the values of a label over all instances of an alert that fire now."""
        found = self.query(f'ALERTS{{alertname="{alert}",alertstate="firing"}}')
        return {one["metric"][label] for one in found}

    def wait(self, condition: Callable[[], bool], what: str, timeout: float = 90) -> None:
        """Wait for what Prometheus shall know; AssertionError with all that fires if it does not in time."""
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, (
                what,
                self.query("ALERTS"),
                self.query('{__name__=~"salt_presence.*"}'),
            )
            time.sleep(0.3)

    def _scrapes(self, number: int) -> bool:
        try:
            return [str(number)] == [one["value"][1] for one in self.query("count(salt_presence_all_minions)")]
        except Exception:  # noqa: BLE001 - not listening yet
            return False
