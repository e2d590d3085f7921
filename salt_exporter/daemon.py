"""The daemon's life: what starts in which order, what a signal does, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
import time
from typing import TYPE_CHECKING, Final

from salt_exporter import __version__, log
from salt_exporter.collectors import ALL
from salt_exporter.config import ConfigError, changed
from salt_exporter.errors import SourceError
from salt_exporter.scrape import Scraper, SingleFlight
from salt_exporter.server import BoundedServer, ListenError
from salt_exporter.web import Busy, application
from salt_exporter.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from salt_exporter.config import Config

_BRIEF: Final = 5.0  # seconds that the landing page may take
_DRAIN: Final = 10.0  # seconds that scrapes under way have to finish when we are told to end
_STOP: Final = 3.0  # and those who watch the master
_RELOADABLE: Final = frozenset(("log.level", "log.format"))

_log = logging.getLogger(__name__)


def run(config: Config, reload: Callable[[], Config]) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status. `reload` reads the configuration again."""
    log.set_up(config.log_level, config.log_format)
    return asyncio.run(_Daemon(config, reload).run())


class _Daemon:
    def __init__(self, config: Config, reload: Callable[[], Config]) -> None:
        self._config = config
        self._reload = reload
        self._world = World(config)
        self._scraper = Scraper([collector(self._world) for collector in ALL if collector.name in config.collectors])
        self._brief = SingleFlight("landing-page", self._world_in_brief)
        self._busy = Busy()
        self._end = asyncio.Event()

    async def run(self) -> int:
        _log.info("salt-exporter %s starts", __version__)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end.set)
        loop.add_signal_handler(signal.SIGHUP, self._start_reload)
        web = application(
            self._scraper, self._busy, self._world.ready.is_set, self._summary, self._config.web_telemetry_path
        )
        server = BoundedServer(web, max_connections=self._config.web_max_connections)
        try:
            for host, port in server.listen_on(self._config.web_listen_address):
                _log.info(
                    "listening on http://%s:%d%s",
                    f"[{host}]" if ":" in host else host,
                    port,
                    self._config.web_telemetry_path,
                )
        except ListenError as error:
            _log.error("%s: choose another --web.listen-address", error)
            return 1
        self._world.start()
        await self._end.wait()
        _log.info("salt-exporter ends")
        server.stop()
        # An idle keep-alive connection is closed at once, a scrape under way is answered first.
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._busy.idle(), _DRAIN)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(server.close_all_connections(), 1.0)
        await SingleFlight("stop", self._world.stop).ask(_STOP)
        return 0

    def _start_reload(self) -> None:
        # It may take long, and as a daemon thread it does not delay our end.
        threading.Thread(target=self._reload_all, name="reload", daemon=True).start()

    def _reload_all(self) -> None:
        """Read our configuration and the master's again; keep what we have where the new one is bad."""
        reload = self._world.reload
        try:
            new = self._reload()
        except ConfigError as error:
            reload.successful = False
            _log.error("configuration not reloaded: %s", error)
            return
        differing = changed(self._config, new)
        log.set_up(new.log_level, new.log_format)
        rest = [name for name in differing if name not in _RELOADABLE]
        if rest:
            _log.warning("these settings take effect with the next start: %s", ", ".join(rest))
        reload.successful, reload.time = True, time.time()
        _log.info("configuration reloaded")
        with contextlib.suppress(SourceError):  # logged by the source itself
            self._world.refresh()

    async def _summary(self) -> list[tuple[str, str]]:
        """Return the rows of the landing page."""
        answer = await self._brief.ask(_BRIEF)
        return [("Problem", str(answer.error))] if answer.value is None else answer.value

    def _world_in_brief(self) -> list[tuple[str, str]]:
        settings = self._world.settings.current()
        counts = self._world.presence().counts()
        return [
            ("Master", f"{settings.id}, Salt {settings.version}"),
            ("Event bus", self._world.bus.problem or "connected"),
            *((f"Minions {state.replace('_', ' ')}", str(number)) for state, number in counts.items()),
            ("Jobs in flight", str(self._world.activity.jobs.in_flight)),
        ]
