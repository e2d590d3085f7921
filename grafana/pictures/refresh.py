"""Draw the dashboards for the docs: `python -m grafana.pictures.refresh`, from the root of the repository.

Starts a real master with minions, faults, the exporter and Prometheus on this machine, lets them run for eight minutes
and writes docs/pictures/*.png. Needs Prometheus, Chromium, Node 20 with npm, and Salt where the exporter is installed;
on Debian `apt-get install prometheus chromium fonts-inter`.
"""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

from grafana.generate import DASHBOARDS
from grafana.pictures.fleet import Fleet
from grafana.pictures.page import Page
from grafana.pictures.prometheus import ADDRESS, SCRAPE_INTERVAL, start_prometheus
from salt_exporter.demo.cleaner import Cleaner

ROOT = Path(__file__).parents[2]
WORK = ROOT / ".tools" / "pictures"
PICTURES = ROOT / "docs" / "pictures"


def refresh() -> None:
    """Write all pictures."""
    page = Page(WORK)
    page.build()
    with closing(Cleaner()) as cleaner:
        fleet = Fleet(cleaner)
        fleet.start()
        start_prometheus(fleet.lab)
        start = time.time()
        fleet.play()
        PICTURES.mkdir(exist_ok=True)
        page.shoot(
            {ROOT / "grafana" / name: PICTURES / name.replace(".json", ".png") for name in DASHBOARDS},
            prometheus=f"http://{ADDRESS}",
            interval=str(SCRAPE_INTERVAL),
            **{"from": str(int(start) + 2 * SCRAPE_INTERVAL), "to": str(int(time.time()))},
        )


if __name__ == "__main__":
    refresh()
