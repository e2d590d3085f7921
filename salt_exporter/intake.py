"""From the bus to the analysis: decodes event bodies outside of any lock and applies them in batches."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from salt_exporter.master.events import TAG_END, EventError, decode
from salt_exporter.probes.event_bus import TAG

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from salt_exporter.analysis.activity import Activity

_LOG_EVERY: Final = 60.0  # seconds; any minion may fire what is no event, as often as it likes

_log = logging.getLogger(__name__)


class Intake:
    """What the bus reader delivers to."""

    def __init__(
        self, activity: Activity, probe_arrived: Callable[[bytes, float], None], published: Callable[[int, float], None]
    ) -> None:
        """Take `probe_arrived`, which is shown bodies that the exporter may have fired itself, and when they came.

        `published` is called with how many jobs have been, and when (monotonic).
        """
        self._activity = activity
        self._probe_arrived = probe_arrived
        # Are shown every batch as it came, and an empty one where events are missing.
        self.observers: list[Callable[[Sequence[bytes]], None]] = []
        self._published = published
        self._log_next = 0.0  # monotonic seconds

    def deliver(self, bodies: Sequence[bytes]) -> None:
        """Take a batch of event bodies in the order received; bad ones are counted and skipped, the first is logged."""
        for observer in self.observers:
            observer(bodies)
        now = time.monotonic()
        events = []
        bad = 0
        for body in bodies:
            if body.startswith(TAG):
                self._probe_arrived(body, now)
            try:
                events.append(decode(body))
            except EventError as error:
                bad += 1
                self._say(error, body, now)
        self._activity.take(events, bad, now, time.time())
        if jobs := sum(event.kind == "job_new" for event in events):
            self._published(jobs, now)

    def missing(self) -> None:
        """Note that events are missing between the batch before and the next one."""
        self._activity.gap()
        for observer in self.observers:
            observer(())

    def _say(self, error: EventError, body: bytes, now: float) -> None:
        if now >= self._log_next:
            self._log_next = now + _LOG_EVERY
            tag = body[:80].partition(TAG_END)[0]  # what follows it may be secret
            _log.warning("skipped an event that is none (%s), tag %r; for a minute such are only counted", error, tag)
