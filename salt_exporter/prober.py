"""The probes that ask something of the master: which are enabled, where they find it, what they have found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from salt_exporter.errors import SourceError
from salt_exporter.probes.burst import Burst
from salt_exporter.probes.event_bus import EventBusProbe
from salt_exporter.probes.message import Router
from salt_exporter.probes.results import Results

if TYPE_CHECKING:
    from pathlib import Path

    from salt_exporter.config import Config
    from salt_exporter.master.settings import SettingsSource
    from salt_exporter.probes.request import RequestProbe

REQUEST: Final = "request"
EVENT_BUS: Final = "event_bus"


class Prober:
    """Owns the request and the event bus probe; `results` holds those that are enabled, by name."""

    def __init__(self, config: Config, settings: SettingsSource, own: set[tuple[bytes, int]]) -> None:
        """Take `own`, the connections of the exporter itself, to be told apart from minions'."""
        enabled = {REQUEST: config.probe_request, EVENT_BUS: config.probe_event_bus}
        self.results = {name: Results(name) for name, wanted in enabled.items() if wanted}
        self._config = config
        self._settings = settings
        self._own = own
        self._request: RequestProbe | None = None
        self._burst = Burst(self._workers, config.probe_request_timeout)
        self._event_bus: EventBusProbe | None = None
        if EVENT_BUS in self.results:
            self._event_bus = EventBusProbe(self.results[EVENT_BUS], self._bus_input)

    def start(self) -> None:
        """Begin to ask."""
        if REQUEST in self.results:
            from salt_exporter.probes.request import RequestProbe  # noqa: PLC0415 - commands that look once do without ZeroMQ

            interval, timeout = self._config.probe_request_interval, self._config.probe_request_timeout
            self._request = RequestProbe(self.results[REQUEST], self._router, self._own, interval, timeout, self._burst)
            self._request.start()
        if self._event_bus:
            self._event_bus.start()

    def stop(self) -> None:
        """Stop asking."""
        if self._request:
            self._request.stop()
        if self._event_bus:
            self._event_bus.stop()

    @property
    def stuck_workers(self) -> int | None:
        """How many workers do not answer; None where that is not known."""
        return self._burst.stuck

    def arrived(self, body: bytes, now: float) -> None:
        """Take an event body that may be our own, received at `now` (monotonic)."""
        if self._event_bus:
            self._event_bus.arrived(body, now)

    def _router(self) -> Router:
        settings = self._settings.current()
        if settings.transport not in {"zeromq", "tcp"}:
            raise SourceError(f"the request probe does not speak what the master does, transport: {settings.transport}")
        return Router(settings.transport, settings.host, settings.request_port)

    def _workers(self) -> int:
        settings = self._settings.current()
        # With the tcp transport a connection belongs to one worker.
        return settings.ping_workers if settings.transport == "zeromq" else 0

    def _bus_input(self) -> Path:
        settings = self._settings.current()
        if not settings.bus.path:
            raise SourceError("the event bus probe writes to a unix socket, the master has ipc_mode: tcp")
        return settings.bus.path.parent / "master_event_pull.ipc"
