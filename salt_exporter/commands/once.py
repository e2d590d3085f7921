"""`salt-exporter --once`: one scrape to standard output."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Final

from salt_exporter.collectors import ALL
from salt_exporter.exposition import render
from salt_exporter.scrape import Scraper
from salt_exporter.web import DEFAULT_TIMEOUT
from salt_exporter.world import World

if TYPE_CHECKING:
    from salt_exporter.config import Config
    from salt_exporter.scrape import Scrape

_SETTLE: Final = 2.0  # seconds that the connections to bus and publisher and the first ping may take


def once(config: Config) -> int:
    """Print the metrics of now; return 1 if a collector failed."""
    scrape = scrape_once(World(config))
    body, _content_type = render(scrape.metrics(), scrape.samples())
    sys.stdout.write(body.decode())
    return any(outcome.samples is None for outcome in scrape.outcomes)


def scrape_once(world: World) -> Scrape:
    """Watch a world just long enough for one whole scrape."""
    enabled = [collector(world) for collector in ALL if collector.name in world.config.collectors]
    world.start()
    try:
        world.ready.wait(DEFAULT_TIMEOUT)
        deadline = time.monotonic() + _SETTLE
        while time.monotonic() < deadline and not _settled(world):
            time.sleep(0.02)
        return asyncio.run(Scraper(enabled).scrape(DEFAULT_TIMEOUT))
    finally:
        world.stop()


def _settled(world: World) -> bool:
    """Tell whether everything that takes a moment to begin has begun."""
    subscribed = world.publisher.is_subscribed or not world.config.probe_publish
    pinged = all(results.read()[0] is not None for results in world.prober.results.values())
    return not world.bus.problem and subscribed and pinged
