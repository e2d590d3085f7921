"""Write the dashboards: `python -m grafana.generate [DIRECTORY]`, from the root of the repository."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from grafana.exporter import exporter
from grafana.jobs import jobs
from grafana.message_path import message_path
from grafana.minions import minions
from grafana.overview import overview

DASHBOARDS = {
    "salt-overview.json": overview,
    "salt-message-path.json": message_path,
    "salt-jobs.json": jobs,
    "salt-minions.json": minions,
    "salt-exporter.json": exporter,
}


def generate(directory: Path) -> None:
    """Write every dashboard into `directory`, the same bytes for the same sources."""
    for name, build in DASHBOARDS.items():
        text = json.dumps(build(), indent=2, ensure_ascii=False) + "\n"
        (directory / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
