"""The daemon's life: what starts in which order, what a signal does, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from salt_exporter import __version__, log
from salt_exporter.api import DEADLINE, endpoints, routes
from salt_exporter.collectors import ALL
from salt_exporter.config import ConfigError, changed
from salt_exporter.errors import SourceError
from salt_exporter.journal import Journal
from salt_exporter.memory import collect_seldom, return_memory
from salt_exporter.notify import Notifier, stay_alive
from salt_exporter.scrape import Scraper, SingleFlight
from salt_exporter.server import BoundedServer, ListenError
from salt_exporter.status import status_page
from salt_exporter.web import Busy, application
from salt_exporter.web_config.live import LiveWebConfig
from salt_exporter.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from tornado.web import Application

    from salt_exporter.config import Config
    from salt_exporter.scrape import Scrape
    from salt_exporter.web_config.live import Active

_DRAIN: Final = 10.0  # seconds that scrapes under way have to finish when we are told to end
_STOP: Final = 3.0  # and those who watch the master
# Seconds for which a thread that computes holds up the others; Python's 5 ms add up where scrapes and the bus reader
# have to take turns with whoever follows thousands of connections.
_TURN: Final = 0.0002
# Without one of these the exporter says nothing true any more.
_VITAL: Final = frozenset(("bus-receive", "bus-deliver", "housekeeper", "sampler"))
_RELOADABLE: Final = frozenset(("log.level", "log.format"))

_log = logging.getLogger(__name__)


def run(config: Config, reload: Callable[[], Config]) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status. `reload` reads the configuration again."""
    return_memory()
    collect_seldom()
    sys.setswitchinterval(_TURN)
    log.set_up(config.log_level, config.log_format)
    try:
        daemon = _Daemon(config, reload)
    except ConfigError as error:
        _log.error("%s", error)
        return 2
    return asyncio.run(daemon.run())


class _Daemon:
    def __init__(self, config: Config, reload: Callable[[], Config]) -> None:
        self._config = config
        self._reload = reload
        journal = Journal(config.state_directory, max_age=config.journal_max_age, max_rows=config.journal_max_rows)
        self._world = World(config, journal)
        self._web_config = LiveWebConfig(config.web_config_file, self._world.web_reload)
        self._notifier = Notifier()
        self._scraper = Scraper([collector(self._world) for collector in ALL if collector.name in config.collectors])
        self._busy = Busy()
        self._end = asyncio.Event()

    async def run(self) -> int:
        _log.info("salt-exporter %s starts", __version__)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end.set)
        loop.add_signal_handler(signal.SIGHUP, self._start_reload)
        server = BoundedServer(self._application(), max_connections=self._config.web_max_connections)
        self._follow_web_config(server)
        try:
            addresses = server.listen_on(self._config.web_listen_address)
        except ListenError as error:
            _log.error("%s: choose another --web.listen-address", error)
            return 1
        for host, port in addresses:
            _log.info("listening on %s", self._url(host, port))
        self._world.start()
        self._notifier.ready()
        watch = asyncio.create_task(stay_alive(self._notifier, _VITAL, self._status))
        await self._end.wait()
        watch.cancel()
        self._web_config.stop()
        self._notifier.stopping()
        _log.info("salt-exporter ends")
        server.stop()
        # An idle keep-alive connection is closed at once, a scrape under way is answered first.
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._busy.idle(), _DRAIN)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(server.close_all_connections(), 1.0)
        await SingleFlight("stop", self._world.stop).ask(_STOP)
        return 0

    def _application(self) -> Application:
        scrape = partial(self._scrape_from_a_thread, asyncio.get_running_loop())
        return application(
            self._scraper,
            self._busy,
            self._world.ready.is_set,
            self._config.web_telemetry_path,
            lambda: self._web_config.current,
            [
                *routes(endpoints(self._world, scrape)),
                status_page(self._world, scrape, self._config.web_telemetry_path),
            ],
        )

    def _scrape_from_a_thread(self, loop: asyncio.AbstractEventLoop) -> Scrape:
        return asyncio.run_coroutine_threadsafe(self._scraper.scrape(DEADLINE - 1), loop).result(DEADLINE)

    def _follow_web_config(self, server: BoundedServer) -> None:
        """Serve with the web configuration in force, now and whenever there is a new one."""
        loop = asyncio.get_running_loop()

        def use(active: Active) -> None:
            server.use_tls(active.tls, active.admits)
            if active.users and not active.tls:
                _log.warning("basic_auth_users without tls_server_config: passwords cross the network in clear text")

        def applied(active: Active) -> None:
            with contextlib.suppress(RuntimeError):  # the exporter has ended meanwhile
                loop.call_soon_threadsafe(use, active)

        use(self._web_config.current)
        self._web_config.start(applied)

    def _status(self) -> str:
        return self._world.bus.problem or "connected to the event bus"

    def _url(self, host: str, port: int) -> str:
        scheme = "https" if self._web_config.current.tls else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{self._config.web_telemetry_path}"

    def _start_reload(self) -> None:
        # It may take long, and as a daemon thread it does not delay our end.
        threading.Thread(target=self._reload_all, name="reload", daemon=True).start()

    def _reload_all(self) -> None:
        """Read our configuration and the master's again; keep what we have where the new one is bad."""
        self._notifier.reloading()
        self._web_config.reload()
        good = self._reload_config()
        self._notifier.ready()  # the master may take its time
        if good:
            with contextlib.suppress(SourceError):  # logged by the source itself
                self._world.refresh()

    def _reload_config(self) -> bool:
        """Read our configuration again; tell whether it can be used."""
        reload = self._world.reload
        try:
            new = self._reload()
        except ConfigError as error:
            _log.error("configuration not reloaded: %s", error)
            reload.successful = False
            return False
        differing = changed(self._config, new)
        log.set_up(new.log_level, new.log_format)
        rest = [name for name in differing if name not in _RELOADABLE]
        if rest:
            _log.warning("these settings take effect with the next start: %s", ", ".join(rest))
        _log.info("configuration reloaded")
        reload.successful, reload.time = True, time.time()
        return True
