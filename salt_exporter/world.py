"""Everything the exporter watches, wired together: what collectors and commands may ask."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from salt_exporter.analysis.activity import Activity
from salt_exporter.analysis.deadlines import Deadlines
from salt_exporter.analysis.evidence import Scene
from salt_exporter.analysis.jobs import JobLedger
from salt_exporter.analysis.presence import NOT_PRESENT
from salt_exporter.analysis.requests import Requests
from salt_exporter.analysis.subscriptions import Subscriptions
from salt_exporter.closing import Closer
from salt_exporter.errors import SourceError
from salt_exporter.intake import Intake
from salt_exporter.kernel.inet_diag import (
    BYTES_ACKED,
    BYTES_RECEIVED,
    COOKIE,
    ESTABLISHED,
    LAST_RECEIVED_MS,
    SEND_QUEUE,
    STATE,
)
from salt_exporter.kernel.sock_diag import tcp_sockets
from salt_exporter.master.ask import Memory
from salt_exporter.master.bus import BusReader
from salt_exporter.master.keys import syndics
from salt_exporter.master.settings import SettingsSource
from salt_exporter.prober import Prober
from salt_exporter.publisher import PublisherWatch
from salt_exporter.rollcall import RollCall, silent_after
from salt_exporter.sampler import PUBLISH, REQUEST, Sampler, reaching_peers

if TYPE_CHECKING:
    from collections.abc import Collection

    from salt_exporter.analysis.presence import Presence
    from salt_exporter.config import Config
    from salt_exporter.journal import Journal
    from salt_exporter.master.addresses import AddressIndex
    from salt_exporter.master.keys import Keys
    from salt_exporter.master.settings import MasterSettings
    from salt_exporter.sampler import Snapshot

_TICK: Final = 1.0  # seconds between looks at jobs that may have ended
_NOTE: Final = 60.0  # seconds between notes of when minions were last seen
_CLIENT_HEARTBEAT: Final = 10.0  # seconds between the heartbeats of clients that send them of their own accord

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Reload:
    """How the last reload of the exporter's own configuration went; starting counts as one."""

    successful: bool = True
    time: float = field(default_factory=time.time)  # of the last successful one, Unix seconds


class World:
    """The sources and the analyses of one master. Questions may be asked from any thread; they raise SourceError."""

    def __init__(self, config: Config, journal: Journal | None = None) -> None:
        """Watch without starting yet; `journal` remembers losses and jobs for the next start."""
        self.config = config
        self.journal = journal
        self.settings = SettingsSource(config.salt_config_dir, Memory(config.state_directory / "settings.json"))
        self.sampler = Sampler(tcp_sockets, self.settings.ports, config.sampler_interval)
        self.publisher = PublisherWatch(self.settings, self.sampler)
        self.prober = Prober(config, self.settings, self.sampler.own)
        self.requests = Requests()
        # The publisher's watch takes its time, so it comes last.
        self.sampler.observers = [
            self._observe_subscriptions,
            self._observe_requests,
            self._decide_presence,
            self.publisher.observe,
        ]
        self.subscriptions = Subscriptions()
        deadlines = Deadlines(config.jobs_deadline, config.jobs_deadlines)
        self.activity = Activity(JobLedger(deadlines, config.jobs_max_functions, config.jobs_max_in_flight))
        self.rollcall = RollCall(self.settings, self.sampler, self.activity.last_seen, config.presence_recent)
        self.rollcall.observers = [self._observe_accepted]
        self.closer = Closer(self.activity, self.settings.current, self._scene, journal)
        self.intake = Intake(self.activity, self.prober.arrived, self._published)
        self.bus = BusReader(lambda: self.settings.current().bus, self.intake.deliver, self.intake.missing)
        self.reload = Reload()
        self.web_reload = Reload()  # of the web configuration file
        self.ready = threading.Event()  # the first refresh has been tried
        self._noted: dict[str, float] | None = None  # what the journal knows of when minions were last seen
        self._stop = threading.Event()
        self._housekeeper = threading.Thread(target=self._keep_house, name="housekeeper", daemon=True)

    def start(self) -> None:
        """Begin to watch: the bus first, so that nothing that happens while the rest is looked up is missed."""
        self.closer.restore(time.monotonic(), time.time())
        self.bus.start()
        self._housekeeper.start()
        if self.config.probe_publish:
            self.publisher.start()
        self.prober.start()
        self.sampler.start()

    def stop(self) -> None:
        """Stop watching; what the bus has delivered is still counted."""
        self._stop.set()
        self.sampler.stop()
        self.publisher.stop()
        self.prober.stop()
        self.bus.stop()
        if self.journal:
            self._note_seen(self.journal)
            self.journal.close()

    def keys(self) -> Keys:
        """Return the minion keys."""
        return self.rollcall.keys()

    def presence(self) -> Presence:
        """Return who is present, as of the newest snapshot."""
        return self.rollcall.presence()

    @property
    def newest_presence(self) -> Presence | None:
        """Who was present when that was last decided."""
        return self.rollcall.newest

    @property
    def index(self) -> AddressIndex:
        """The addresses of the minions."""
        return self.rollcall.index

    @property
    def age(self) -> float:
        """Seconds since the last good refresh, infinite before the first."""
        refreshed = self.rollcall.refreshed
        return time.monotonic() - refreshed if refreshed is not None else float("inf")

    def refresh(self) -> None:
        """Look for changes of the master's configuration, keys and cached grains."""
        self.rollcall.refresh()

    def _observe_accepted(self, settings: MasterSettings, accepted: Collection[str]) -> None:
        self.activity.keep_only(accepted)
        self.activity.know_syndics(syndics(settings.cachedir))
        self.requests.longest_id = max(map(len, map(str.encode, accepted)), default=0)

    def _scene(self, now: float, wall: float) -> Scene:
        """Return all that is known now about minions and their connections. Raises SourceError."""
        presence = self.presence()
        settings = self.settings.current()
        addresses = self.index.current
        return Scene(
            now=now,
            wall=wall,
            accepted=presence.verdicts.keys(),
            addresses=addresses.by_minion,
            claims=addresses.by_address,
            own_addresses=self.rollcall.own_addresses,
            subscriptions=self.subscriptions,
            publisher=self.publisher,
            presence=presence,
            seen=self.activity.last_seen(),
            reaching=reaching_peers(self.sampler.snapshot()),
            silent_limit=silent_after(settings),
        )

    def _published(self, jobs: int, now: float) -> None:
        self.publisher.published(jobs, now)
        self.sampler.look_soon()

    def _observe_subscriptions(self, snapshot: Snapshot) -> None:
        self.subscriptions.observe(snapshot.connections[PUBLISH], snapshot.taken)

    def _observe_requests(self, snapshot: Snapshot) -> None:
        settings = self.settings.current()
        if settings.transport != "zeromq":  # others frame in their own way
            return
        clients = (
            (row[COOKIE], row[BYTES_RECEIVED], row[BYTES_ACKED] + row[SEND_QUEUE], row[LAST_RECEIVED_MS] / 1000)
            for row in snapshot.connections[REQUEST]
            if row[STATE] == ESTABLISHED
        )
        # Where the master sends none, or its Salt has no such option, those of clients remain.
        heartbeat = settings.options.get("zmq_heartbeat_ivl", 0) / 1000 or _CLIENT_HEARTBEAT
        self.requests.observe(clients, snapshot.taken, heartbeat)

    def _decide_presence(self, _: Snapshot) -> None:
        """Have it ready before a scrape asks: of thousands of minions it takes its time."""
        if self.rollcall.refreshed is not None:
            with suppress(SourceError):  # the collectors that need it say so at each scrape
                self.presence()

    def _keep_house(self) -> None:
        next_refresh = 0.0
        next_note = time.monotonic() + _NOTE
        while not self._stop.is_set():
            now = time.monotonic()
            if now >= next_refresh:
                next_refresh = now + self.config.presence_refresh
                try:
                    self.refresh()
                except SourceError as error:  # the collectors that need it say so at each scrape
                    _log.debug("%s", error)
                except Exception:  # noqa: BLE001 - whatever it is, jobs are to be closed and the next look may go well
                    _log.exception("cannot look for changes of the master's configuration, keys and grains")
                self.ready.set()
            self._close_jobs()
            if self.journal and now >= next_note:
                next_note = now + _NOTE
                self._note_seen(self.journal)
            self._stop.wait(_TICK)

    def _close_jobs(self) -> None:
        absent = self.newest_presence.minions(NOT_PRESENT) if self.newest_presence else ()
        try:
            self.closer.tick(time.monotonic(), time.time(), absent)
        except Exception:  # noqa: BLE001 - whatever it is, other jobs are to be closed
            _log.exception("cannot close jobs")

    def _note_seen(self, journal: Journal) -> None:
        seen = self.activity.last_seen()
        try:
            noted = journal.last_seen() if self._noted is None else self._noted
        except SourceError:
            noted = {}
        journal.seen({minion: when for minion, when in seen.items() if noted.get(minion) != when})
        if self.rollcall.refreshed is not None:  # before, nobody knows whose key is gone
            journal.forget(noted.keys() - seen.keys())
            self._noted = seen
