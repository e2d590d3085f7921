"""What the master's publisher does to its subscribers: brings the sampler, our subscriber and the ledger together."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from salt_exporter.analysis.evidence import Delivery
from salt_exporter.analysis.frames import Frames
from salt_exporter.analysis.ledger import HANDSHAKE, SETTLE, Ledger
from salt_exporter.analysis.stream import Stream
from salt_exporter.errors import SourceError
from salt_exporter.kernel.inet_diag import (
    BYTES_ACKED,
    BYTES_RECEIVED,
    COOKIE,
    ESTABLISHED,
    PEER,
    SEND_QUEUE,
    STATE,
)
from salt_exporter.sampler import PUBLISH

if TYPE_CHECKING:
    from collections.abc import Mapping

    from salt_exporter.master.settings import MasterSettings, SettingsSource
    from salt_exporter.probes.publish import PublishProbe
    from salt_exporter.sampler import Sampler, Snapshot

# A subscription takes effect when the master has read it: messages before that are for others only.
_SUBSCRIBED_AFTER: Final = 1.0


@dataclass(frozen=True, slots=True)
class Figures:
    """What the ledger says at one moment."""

    published_messages: int = 0
    published_bytes: int = 0
    queued_messages_max: int = 0
    hwm_ratio: float = 0.0
    behind: int = 0
    stalled: int = 0
    dropped_messages: int = 0
    dropped_bytes: int = 0
    dropped_by_peer: Mapping[bytes, int] = field(default_factory=dict)
    lost_on_close_messages: int = 0
    lost_on_close_bytes: int = 0
    frames_missing: int = 0


class PublisherWatch:
    """Owns the probe and the ledger; fed with snapshots by the sampler's thread."""

    def __init__(self, settings: SettingsSource, sampler: Sampler) -> None:
        self._settings = settings
        self._stream = Stream()
        self._own = sampler.own
        self._probe: PublishProbe | None = None
        self._ledger = Ledger(self._stream, hwm=0)
        self._frames = Frames(self._stream)
        self._figures = Figures()  # of the last observation: nobody who asks waits for the next one
        self._lock = threading.Lock()
        self._since = float("inf")  # of the subscription that the ledger's accounts rest on

    def start(self) -> None:
        """Begin to subscribe."""
        from salt_exporter.probes.publish import PublishProbe  # noqa: PLC0415 - commands that look once do without ZeroMQ

        self._probe = PublishProbe(self._stream, self._publisher, self._own)
        self._probe.start()

    def stop(self) -> None:
        """Close the subscription."""
        if self._probe:
            self._probe.stop()

    def observe(self, snapshot: Snapshot) -> None:
        """Take a snapshot that is just fresh; returns SETTLE seconds later."""
        probe = self._probe
        try:
            settings = self._settings.current()
        except SourceError:
            return
        if probe is None or why_unknown(settings) or snapshot.taken < probe.subscribed_since + _SUBSCRIBED_AFTER:
            return
        since = probe.subscribed_since
        time.sleep(SETTLE)
        if probe.drained < snapshot.taken + SETTLE / 2:
            return  # this process gets too little time to know what has been published; the next sample tells as much
        before, after = self._stream.position_at(snapshot.taken - SETTLE), self._stream.position
        subscribers = [
            (row[COOKIE], row[PEER], row[BYTES_ACKED], row[SEND_QUEUE])
            for row in snapshot.connections[PUBLISH]
            # Before the master has its subscription a connection gets nothing, and nothing is dropped for it.
            if row[STATE] == ESTABLISHED and row[BYTES_RECEIVED] > HANDSHAKE
        ]
        if probe.subscribed_since != since:
            return
        with self._lock:
            if since != self._since:  # another subscription: positions of before mean nothing now
                self._since = since
                self._ledger.restart()
                self._frames.restart()
            self._ledger.hwm = int(settings.options["pub_hwm"])
            self._ledger.heartbeat = settings.options.get("zmq_heartbeat_ivl", 0.0) / 1000
            self._ledger.observe(subscribers, before, after, snapshot.taken)
            self._frames.settle(snapshot.taken)
            self._figures = self._newest_figures()

    def published(self, jobs: int, now: float) -> None:
        """Take that the bus has told of so many jobs at `now` (monotonic)."""
        if self.is_subscribed:
            with self._lock:
                self._frames.publish(jobs, now)

    @property
    def is_subscribed(self) -> bool:
        """Whether the subscription stands."""
        return self._probe is not None and self._probe.subscribed_since < float("inf")

    def problem(self) -> str:
        """Return why nothing is known about the publisher now, "" if something is. Raises SourceError."""
        if reason := why_unknown(self._settings.current()):
            return reason
        if self._probe is None:
            return "without the publish probe nobody counts what the master publishes: set --probe.publish"
        if self._probe.subscribed_since == float("inf"):
            return "the exporter is not subscribed to the publish port: is the salt-master running?"
        return ""

    def figures(self) -> Figures:
        """Return what the ledger says now. Raises SourceError where it cannot know."""
        if problem := self.problem():
            raise SourceError(problem)
        return replace(
            self._figures,
            published_messages=self._stream.messages,
            published_bytes=self._stream.position,
            frames_missing=self._frames.missing,
        )

    def _newest_figures(self) -> Figures:
        ledger = self._ledger
        # Few of thousands are.
        busy = [account for account in ledger.accounts.values() if account.queued_messages or account.stalled]
        return Figures(
            queued_messages_max=max((account.queued_messages for account in busy), default=0),
            hwm_ratio=max((account.fill for account in busy), default=0.0),
            behind=sum(account.queued_messages > 0 for account in busy),
            stalled=sum(account.stalled for account in busy),
            dropped_messages=ledger.dropped_messages,
            dropped_bytes=ledger.dropped_bytes,
            dropped_by_peer=ledger.dropped_by_peer.copy(),
            lost_on_close_messages=ledger.lost_on_close_messages,
            lost_on_close_bytes=ledger.lost_on_close_bytes,
        )

    def delivery(self, cookie: int, time: float) -> Delivery:
        """Tell about one connection, as of what was published at `time` (monotonic)."""
        with self._lock:
            account = self._ledger.accounts.get(cookie)
            # Nothing but its time tells which frame a publication is: the bus names the job, frames are encrypted.
            number = self._stream.number_at(time)
            dropped = number is not None and self._ledger.has_dropped(cookie, number)
            return Delivery(dropped, account.queued_messages if account else 0, bool(account and account.stalled))

    def stands_still(self, time: float) -> bool:
        """Tell whether nothing has come out of the publish port since a job was published at `time` (monotonic)."""
        with self._lock:
            nothing = self.is_subscribed and self._stream.messages_at(time) == self._stream.messages
            return nothing and self._frames.has_none(time)

    def _publisher(self) -> tuple[str, int] | None:
        """Return where to subscribe, None while that is not known or makes no sense."""
        try:
            settings = self._settings.current()
        except SourceError:
            return None
        if settings.transport != "zeromq":
            return None
        return settings.host, settings.publish_port


def why_unknown(settings: MasterSettings) -> str:
    """Return why nobody can tell from outside what this master drops, "" if one can."""
    if settings.transport != "zeromq":
        return f"with transport: {settings.transport} there is no high-water mark and no queue to see"
    if settings.options.get("zmq_filtering"):
        return "with zmq_filtering: True each minion gets other bytes, so nothing tells what it did not get"
    return ""
