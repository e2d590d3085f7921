"""What a probe has found so far: whether the last attempt succeeded, and how long the answers took."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

from salt_exporter.metric import Distribution

if TYPE_CHECKING:
    from salt_exporter.metric import HistogramValue

# Seconds. An idle master answers in a fraction of a millisecond; beyond the timeout come answers that were late.
_BOUNDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

_log = logging.getLogger(__name__)


class Results:
    """Written by the probe's thread, read by others."""

    def __init__(self, probe: str) -> None:
        self._probe = probe
        self._lock = threading.Lock()  # of the three below
        self._success: bool | None = None
        self._problem = ""
        self._durations = Distribution(_BOUNDS)

    def succeeded(self, seconds: float) -> None:
        """Note an answer in time."""
        with self._lock:
            recovered = self._success is False
            self._success, self._problem = True, ""
            self._durations.observe(seconds)
        if recovered:
            _log.info("the %s probe succeeds again", self._probe)

    def late(self, seconds: float) -> None:
        """Note an answer that came after its attempt had failed: it counts as a duration all the same."""
        with self._lock:
            self._durations.observe(seconds)

    def failed(self, problem: str) -> None:
        """Note an attempt that failed; `problem` is one sentence."""
        self._note(success=False, problem=problem)

    def unknown(self, problem: str) -> None:
        """Note that no attempt is possible; `problem` is one sentence."""
        self._note(success=None, problem=problem)

    def _note(self, *, success: bool | None, problem: str) -> None:
        with self._lock:
            news = problem != self._problem
            self._success, self._problem = success, problem
        if news:
            _log.warning("the %s probe: %s", self._probe, problem)

    def read(self) -> tuple[bool | None, str, HistogramValue]:
        """Return success (None: not known), why there is none, and the durations in seconds."""
        with self._lock:
            return self._success, self._problem, self._durations.value()
