"""The event bus probe against a socket of the test's own: what it writes, and what it makes of what comes back."""

from __future__ import annotations

import socket
import struct
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgpack

from salt_exporter.errors import SourceError
from salt_exporter.master.events import decode
from salt_exporter.probes.event_bus import TAG, EventBusProbe
from salt_exporter.probes.results import Results

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_TIMEOUT = 0.3


@contextmanager
def _bus(folder: Path) -> Iterator[tuple[EventBusProbe, Results, Callable[[], bytes]]]:
    """Run a probe; the last of what is yielded takes the next event it writes and returns the body."""
    results = Results("event_bus")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "pull"))
        listener.listen()
        listener.settimeout(10)

        def body() -> bytes:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as stream:
                written = stream.read()
            assert struct.unpack(">I", written[:4])[0] == len(written) - 4
            frame = msgpack.unpackb(written[4:])
            assert frame.keys() == {"head", "body"}
            assert {} == frame["head"]
            return bytes(frame["body"])

        probe = EventBusProbe(results, lambda: folder / "pull", interval=0.01, timeout=_TIMEOUT)
        probe.start()
        try:
            yield probe, results, body
        finally:
            probe.stop()


def _wait(results: Results, success: bool | None) -> None:  # noqa: FBT001 - what is waited for
    deadline = time.monotonic() + 10
    while results.read()[0] is not success:
        assert time.monotonic() < deadline, results.read()
        time.sleep(0.01)


def test_event(tmp_path: Path) -> None:
    """The event is one that our own reader takes for kind other, with a stamp of now, and nobody's sign of life."""
    with _bus(tmp_path) as (_probe, _results, body):
        event = decode(body())
    assert ("other", None, None) == (event.kind, event.minion, event.detail)
    assert event.stamp
    assert abs(event.stamp - time.time()) < 10


def test_round_trip(tmp_path: Path) -> None:
    """The event that comes back is a success with its duration, and counts once; the next one follows."""
    with _bus(tmp_path) as (probe, results, body):
        first = body()
        probe.arrived(first, time.monotonic())
        probe.arrived(first, time.monotonic())
        second = body()
        success, problem, durations = results.read()
    assert first != second
    assert (True, "", 1) == (success, problem, sum(durations.counts))
    assert 0 <= durations.sum < _TIMEOUT


def test_events_of_others(tmp_path: Path) -> None:
    """The probe of another exporter on the same bus, or a tag that only begins like ours, is no answer."""
    with _bus(tmp_path) as (probe, results, body):
        tag = body().partition(b"\n\n")[0]
        probe.arrived(TAG + b"0123\n\n\x80", time.monotonic())
        probe.arrived(tag + b"/more\n\n\x80", time.monotonic())
        _wait(results, success=False)
    assert 0 == sum(results.read()[2].counts)


def test_late_event(tmp_path: Path) -> None:
    """An event that comes back after the timeout counts as a duration and leaves the failure standing."""
    with _bus(tmp_path) as (probe, results, body):
        event = body()
        probe.arrived(event, time.monotonic() + _TIMEOUT)
        success, _problem, durations = results.read()
        assert (None, 1) == (success, sum(durations.counts))
        _wait(results, success=False)


def test_nobody_listens(tmp_path: Path) -> None:
    """Without a master the probe fails."""
    results = Results("event_bus")
    probe = EventBusProbe(results, lambda: tmp_path / "pull")
    probe.start()
    _wait(results, success=False)
    probe.stop()
    assert results.read()[1].startswith("cannot write to the event bus")


def test_nowhere_to_write(tmp_path: Path) -> None:
    """Where the probe cannot be made it neither succeeds nor fails, and says why."""

    def nowhere() -> Path:
        raise SourceError(f"{tmp_path} is no bus")

    results = Results("event_bus")
    probe = EventBusProbe(results, nowhere)
    probe.start()
    deadline = time.monotonic() + 10
    while not results.read()[1] and time.monotonic() < deadline:
        time.sleep(0.01)
    probe.stop()
    assert (None, f"{tmp_path} is no bus") == results.read()[:2]
