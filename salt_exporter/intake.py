"""From the bus to the analysis: decodes event bodies outside of any lock and applies them in batches."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from salt_exporter.master.events import EventError, decode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from salt_exporter.analysis.activity import Activity

_log = logging.getLogger(__name__)


class Intake:
    """What the bus reader delivers to."""

    def __init__(self, activity: Activity) -> None:
        self._activity = activity

    def deliver(self, bodies: Sequence[bytes]) -> None:
        """Take a batch of event bodies in the order received; bad ones are counted, logged and skipped."""
        events = []
        bad = 0
        for body in bodies:
            try:
                events.append(decode(body))
            except EventError as error:
                bad += 1
                _log.warning("skipped an event that is none (%s): %.80r", error, body)
        self._activity.take(events, bad, time.monotonic(), time.time())
