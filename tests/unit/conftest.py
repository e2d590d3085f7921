"""What the tests of the house share: collectors that do as they are told, and the web server around them."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from salt_exporter.metric import Metric, Sample, gauge
from salt_exporter.scrape import Answer, Scraper, SingleFlight
from salt_exporter.server import BoundedServer
from salt_exporter.web import Busy, application
from salt_exporter.web_config.live import Active
from tests.unit.daemons import Daemon
from tests.unit.tools import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import TypeAlias

    from salt_exporter.collectors import Collector

    MakeCollector: TypeAlias = Callable[..., Collector]
    Serve: TypeAlias = Callable[..., "Site"]

NUMBER = gauge("salt_test_number", "A number that a test has made up.")


@pytest.fixture(scope="module")
def number() -> Metric:
    """Return a gauge without labels."""
    return NUMBER


@pytest.fixture(scope="module")
def make_collector() -> MakeCollector:
    """Return a maker of collectors: a name, what `collect` does, and the metrics it declares."""

    def make(name: str, collect: Callable[[], Iterable[Sample]], metrics: Sequence[Metric] = (NUMBER,)) -> Collector:
        return cast("Collector", SimpleNamespace(name=name, collect=collect, metrics=tuple(metrics)))

    return make


class Site:
    """The exporter's web server on a free port of the loopback, in a thread of its own."""

    def __init__(
        self, collectors: Sequence[Collector], telemetry_path: str, max_connections: int, more: Sequence[Any]
    ) -> None:
        self.address = ("", 0)
        self.ready = True  # what the site answers when asked
        self.busy = Busy()
        self.web_config = Active()  # as the site serves it; `use` changes it
        self.server: BoundedServer
        self._collectors = collectors
        self._telemetry_path = telemetry_path
        self._max_connections = max_connections
        self._more = more
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        self._started.wait()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        scraper = Scraper(self._collectors)
        web = application(
            scraper,
            self.busy,
            lambda: self.ready,
            self._telemetry_path,
            lambda: self.web_config,
            self._more,
        )
        self.server = BoundedServer(web, max_connections=self._max_connections)
        (self.address,) = self.server.listen_on([("127.0.0.1", 0)])
        self._started.set()
        await self._end.wait()
        self.server.stop()
        await self.server.close_all_connections()

    def use(self, web_config: Active) -> None:
        """Serve with another web configuration from now on."""

        def apply() -> None:
            self.web_config = web_config
            self.server.use_tls(web_config.tls, web_config.admits)
            applied.set()

        applied = threading.Event()
        self._loop.call_soon_threadsafe(apply)
        applied.wait()

    def stop(self) -> None:
        """Close all connections and end the thread."""
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    def connect(self, source: str = "127.0.0.1", receive_buffer: int = 0) -> socket.socket:
        """Return a connection from an address of the loopback; waiting for data ends after 10 s."""
        connection = socket.socket()
        connection.settimeout(10)
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.bind((source, 0))
        connection.connect(self.address)
        return connection


@pytest.fixture
def ask_at_once(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Return what makes six requests, lets the call of that name go on when all wait for it, and gives the statuses."""
    waiting: Counter[str] = Counter()
    ask = SingleFlight.ask

    async def counted(flight: SingleFlight[Any], timeout: float) -> Answer[Any]:
        waiting[flight._name] += 1
        return await ask(flight, timeout)

    monkeypatch.setattr(SingleFlight, "ask", counted)

    def all_at_once(request: Callable[[], int], name: str, release: threading.Event) -> list[int]:
        with ThreadPoolExecutor(6) as pool:
            statuses = [pool.submit(request) for _ in range(6)]
            wait_until(lambda: waiting[name] == 6)
            release.set()
            return [status.result() for status in statuses]

    return all_at_once


@pytest.fixture(scope="module")
def serve() -> Iterator[Serve]:
    """Return a starter of sites; they are stopped when the module's tests are done."""
    sites: list[Site] = []

    def start(
        collectors: Sequence[Collector] = (),
        telemetry_path: str = "/metrics",
        max_connections: int = 16,
        more: Sequence[Any] = (),
    ) -> Site:
        sites.append(Site(collectors, telemetry_path, max_connections, more))
        return sites[-1]

    yield start
    for site in sites:
        site.stop()


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Daemon]]:
    """Return a starter of daemons; those that still run at the end are killed."""
    daemons: list[Daemon] = []

    def begin(*arguments: str, **settings: Any) -> Daemon:  # noqa: ANN401 - those of Daemon
        folder = tmp_path_factory.mktemp("daemon") / "own"
        daemons.append(Daemon(folder, *arguments, **settings))
        return daemons[-1].await_start()

    yield begin
    for daemon in daemons:
        daemon.process.kill()
        daemon.process.wait()
