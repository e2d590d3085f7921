"""The Prometheus that watches the fleet of the pictures, with the shipped rules made impatient."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

import yaml

from grafana.pictures.fleet import EXPORTER

if TYPE_CHECKING:
    from salt_exporter.demo.lab import Lab

ADDRESS: Final = "127.0.0.1:24590"
RULES: Final = Path(__file__).parents[2] / "alerts" / "salt.rules.yml"
SCRAPE_INTERVAL: Final = 5  # seconds
_PATIENCE: Final = "10s"  # instead of the minutes that alerts wait; nothing else of them is changed


def start_prometheus(lab: Lab) -> None:
    """Start Prometheus in the lab; it scrapes the fleet's exporter."""
    folder = lab.folder / "prometheus"
    folder.mkdir()
    (folder / "salt.rules.yml").write_text(impatient(RULES.read_text(encoding="utf-8")), encoding="utf-8")
    config = folder / "prometheus.yml"
    config.write_text(yaml.safe_dump(_config()), encoding="utf-8")
    lab.start(
        "prometheus",
        [
            shutil.which("prometheus") or "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={ADDRESS}",
            "--enable-feature=exemplar-storage",
        ],
    )


def impatient(rules: str) -> str:
    """Return the text of a rule file with alerts that wait for seconds only."""
    document = yaml.safe_load(rules)
    for group in document["groups"]:
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = _PATIENCE
    return yaml.safe_dump(document)


def _config() -> dict[str, object]:
    interval = f"{SCRAPE_INTERVAL}s"
    return {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": ["salt.rules.yml"],
        "scrape_configs": [{"job_name": "salt", "static_configs": [{"targets": [EXPORTER]}]}],
    }
