"""What a real master drops at pub_hwm, counted by subscribers that are there, compared with what the ledger counts."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from salt_exporter.analysis.stream import wire_size
from salt_exporter.demo.cleaner import Cleaner
from salt_exporter.demo.lab import Lab
from salt_exporter.demo.salt_config import living_at
from tests.real.conftest import GHOST_KEY
from tests.real.exporter import Exporter
from tests.real.newest import newest_line_only

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.real.conftest import SaltLine
    from tests.real.exporter import Metrics
    from tests.real.namespaces import Network

pytestmark = pytest.mark.real

_PROGRAMS = Path(__file__).with_name("programs")
_MIXED = (1_000, 30_000, 200_000)
_STEADY = (5_000,)
# Seconds of ordinary traffic.
_TRAFFIC_SECONDS = float(os.environ.get("SALT_EXPORTER_TEST_TRAFFIC_SECONDS", "10"))

_with_newest = newest_line_only("the queue and its mark are libzmq's; test_drops_are_counted fills one of each line")

_FIRST = 3  # messages that show whether a subscription has arrived
# Messages published, at the pace of the test, until what is seen of a sample is there to be scraped: some seconds.
_SEEN_LATER = 60

_MESSAGES = "salt_publish_messages_total"
_BYTES = "salt_publish_bytes_total"
_DROPPED = "salt_publish_dropped_messages_total"
_DROPPED_BYTES = "salt_publish_dropped_bytes_total"
_RATIO = "salt_publish_hwm_ratio"
_LOST_ON_CLOSE = "salt_publish_lost_on_close_messages_total"
_SEND_QUEUE = "salt_publish_send_queue_bytes"


class _Scene:
    """A master of its own, the exporter, and subscribers that count what they get."""

    def __init__(self, lab: Lab, prefix: Sequence[str], exporter: Exporter, hwm: int) -> None:
        self.lab = lab
        self.exporter = exporter
        self._prefix = prefix
        self._ahead = hwm // 3  # so many messages wait without a drop for whoever keeps up

    def subscribe(self, name: str, source: str) -> None:
        """Start a subscriber and wait until it gets messages."""
        argv = [sys.executable, str(_PROGRAMS / "subscriber.py"), str(self.lab.ports[0]), source]
        self.lab.start(name, argv, self._prefix)

    def received(self, name: str) -> int:
        """Return how many messages a subscriber has received."""
        return len(self.lab.log(name).read_text().splitlines())

    def received_bytes(self, name: str) -> int:
        """Return how many bytes these messages took on the wire."""
        return sum(wire_size(int(size)) for size in self.lab.log(name).read_text().splitlines())

    def publish(self, number: int, sizes: Sequence[int], interval: float = 0.0, target: str = "ghost") -> None:
        """Start to publish jobs as a user's program does."""
        self._start("publisher", [str(self.lab.config_dir), target, str(number), str(interval), *map(str, sizes)])

    def push(self, number: int, sizes: Sequence[int], interval: float = 0.0) -> None:
        """Start to publish jobs fast, which only the publisher's part of the master sees."""
        settings = self.lab.folder / "run", self.lab.ports[0], self._ahead, number, interval, *sizes
        self._start("pusher", list(map(str, settings)))

    def is_publishing(self, name: str = "publisher") -> bool:
        """Tell whether jobs are still being published; AssertionError if that went wrong."""
        running = self.lab.is_running(name)
        assert running or self.lab.log(name).read_text().startswith("published")
        return running

    def _start(self, name: str, settings: Sequence[str]) -> None:
        self.lab.log(name).write_text("")
        self.lab.start(name, [self.lab.programs.python, str(_PROGRAMS / f"{name}.py"), *settings], self._prefix)

    def stop(self, name: str) -> None:
        """Freeze a subscriber: from now on it reads nothing."""
        os.kill(self.lab.pid(name), signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Let a frozen subscriber go on."""
        os.kill(self.lab.pid(name), signal.SIGCONT)

    def wait_received(self, name: str, number: int) -> None:
        """Wait until a subscriber has received so many messages."""
        self.lab.wait(name, lambda: self.received(name) >= number, 20)

    def wait_connected(self, number: int) -> None:
        """Wait until the publish port has so many connections."""

        def connected(metrics: Metrics) -> bool:
            return metrics.get("salt_connections", 0, channel="publish", state="established") == number

        self.exporter.wait(connected, 20, f"{number} subscribers are connected")

    def wait_caught_up(self) -> None:
        """Wait until nothing waits for any subscriber, neither in the kernel nor in the master."""
        self.exporter.wait(
            lambda metrics: metrics.get(_SEND_QUEUE) == metrics.get(_RATIO) == 0, 40, "all have caught up"
        )

    def counted(self, lost: float) -> Metrics:
        """Return the metrics once so many bytes are counted as dropped, within 1 %, and no more come."""
        self.exporter.wait(lambda metrics: metrics.get(_DROPPED_BYTES) >= 0.99 * lost, 30, f"{lost} bytes are counted")
        time.sleep(2)
        return self.exporter.scrape()


@contextmanager
def _scene(salt_line: SaltLine, network: Network, state: Path, hwm: int) -> Iterator[_Scene]:
    prefix = network.prefix("web2")  # where the ports of another master are free
    options = {"interface": "127.0.0.1", "pub_hwm": hwm, "worker_threads": 1}
    with closing(Cleaner()) as cleaner:
        lab = Lab(cleaner, salt_line.programs, options=options, prefix=prefix)
        lab.accept_key("ghost", GHOST_KEY)
        lab.start_master()
        lab.wait_master_ready()
        exporter = Exporter(lab, prefix, state)
        exporter.wait(
            lambda metrics: bool(metrics.get("salt_exporter_collector_success", collector="publish")), 40, "on"
        )
        scene = _Scene(lab, prefix, exporter, hwm)
        yield scene
        exporter.stop()


def _start_subscribers(scene: _Scene, *names: str) -> None:
    """Start subscribers and wait until all of them get what is published, and the ledger knows them."""
    before = scene.exporter.scrape().get("salt_connections", channel="publish", state="established")
    for number, name in enumerate(names, 1):
        scene.subscribe(name, f"127.5.0.{number}")
    scene.wait_connected(round(before) + len(names))
    time.sleep(1)  # then the master has the subscriptions
    scene.push(_FIRST, [100])
    for name in names:
        scene.wait_received(name, _FIRST)
    time.sleep(2)  # two samples


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("hwm", "messages", "sizes", "tolerance"),
    [
        # Where a queue drops several times within one stall, and sizes differ, their number is an estimate.
        pytest.param(10, 250, _MIXED, 0.05, id="mixed-10"),
        pytest.param(100, 450, (50_000,), 0.01, id="steady-100", marks=_with_newest),
    ],
)
def test_drops_are_counted(
    salt_line: SaltLine,
    network: Network,
    tmp_path: Path,
    hwm: int,
    messages: int,
    sizes: Sequence[int],
    tolerance: float,
) -> None:
    """The drops counted are what frozen subscribers did not get: bytes exact, messages within the tolerance."""
    with _scene(salt_line, network, tmp_path, hwm) as scene:
        _start_subscribers(scene, "fast", "slow", "slower")
        assert scene.exporter.scrape().get(_DROPPED) == 0
        scene.stop("slow")
        scene.stop("slower")
        started = time.monotonic()
        scene.push(messages, sizes, interval=0.01)
        # The master cuts who is silent for 40 s.
        while scene.is_publishing("pusher") and time.monotonic() < started + 30:
            if scene.received("fast") > messages * 2 // 3:
                scene.resume("slow")
            time.sleep(0.1)
        scene.resume("slow")
        scene.resume("slower")
        scene.lab.wait("fast", lambda: not scene.is_publishing("pusher"), 60)
        missed = _held_to_what_was_missed(scene, messages, tolerance)
        assert missed["slower"] > hwm


@_with_newest
@pytest.mark.timeout(120)
def test_default_mark(salt_line: SaltLine, network: Network, tmp_path: Path) -> None:
    """With the default `pub_hwm` of 1000, drops counted are what subscribers frozen for some seconds did not get."""
    messages, sizes = 1600, (2_000, 10_000, 40_000)
    with _scene(salt_line, network, tmp_path, hwm=1000) as scene:
        _start_subscribers(scene, "fast", "slow", "slower")
        assert scene.exporter.scrape().get(_DROPPED) == 0
        scene.stop("slow")
        scene.stop("slower")
        scene.push(messages, sizes)
        scene.lab.wait("fast", lambda: not scene.is_publishing("pusher"), 35)  # before the master cuts who is silent
        scene.resume("slow")
        scene.resume("slower")
        missed = _held_to_what_was_missed(scene, messages, 0.01)
        assert min(missed["slow"], missed["slower"]) > 100


def _held_to_what_was_missed(scene: _Scene, messages: int, tolerance: float) -> dict[str, int]:
    """Compare the ledger with what "slow" and "slower" did not get of what "fast" did; return that, in messages."""
    names = ("fast", "slow", "slower")
    scene.wait_caught_up()
    scene.wait_received("fast", _FIRST + messages)
    lost = sum(scene.received_bytes("fast") - scene.received_bytes(name) for name in names)
    metrics = scene.counted(lost)
    missed = {name: _FIRST + messages - scene.received(name) for name in names}
    print(missed, metrics.get(_DROPPED))  # noqa: T201 - how near the ledger came, for whoever looks
    assert missed["fast"] == 0
    assert metrics.get(_DROPPED) == pytest.approx(sum(missed.values()), rel=tolerance, abs=1)
    assert metrics.get(_DROPPED_BYTES) == pytest.approx(lost, rel=0.01)
    assert metrics.get(_LOST_ON_CLOSE) == 0
    assert metrics.get(_MESSAGES) >= messages
    return missed


@_with_newest
@pytest.mark.timeout(240)
def test_slow_readers(salt_line: SaltLine, network: Network, tmp_path: Path) -> None:
    """Of 200 subscribers five read too slowly, yet never stop: what these do not get is counted, and nothing else."""
    messages, fast, shares = 1200, 195, (0.1, 0.2, 0.25, 0.3, 0.35)
    with _scene(salt_line, network, tmp_path, hwm=100) as scene:
        argv = [sys.executable, str(_PROGRAMS / "readers.py"), *map(str, (scene.lab.ports[0], fast, *shares))]
        scene.lab.start("readers", argv, network.prefix("web2"))

        def reports() -> list[list[Any]]:
            lines = scene.lab.log("readers").read_text().splitlines()
            return [json.loads(line) for line in lines[-3:]]

        scene.wait_connected(fast + len(shares))
        time.sleep(1)  # then the master has the subscriptions
        scene.push(_FIRST, _STEADY)
        scene.lab.wait("readers", lambda: reports()[-1] == [fast * _FIRST, [_FIRST] * len(shares)], 20)
        time.sleep(2)  # two samples
        scene.push(messages, _STEADY, interval=1 / 250)
        scene.lab.wait("readers", lambda: not scene.is_publishing("pusher"), 100)
        scene.wait_caught_up()
        scene.lab.wait("readers", lambda: reports()[0] == reports()[-1], 20)  # what little waited there is read, too
        received, slow = reports()[-1]
        missed = [_FIRST + messages - number for number in slow]
        metrics = scene.exporter.scrape()
        metrics = scene.counted(sum(missed) * metrics.get(_BYTES) / metrics.get(_MESSAGES))
        print(missed, metrics.get(_DROPPED))  # noqa: T201 - how near the ledger came, for whoever looks
        assert received == fast * (_FIRST + messages)
        assert sum(missed) > 300
        assert metrics.get(_DROPPED) == pytest.approx(sum(missed), rel=0.01, abs=1)
        assert metrics.get(_LOST_ON_CLOSE) == 0


@_with_newest
@pytest.mark.timeout(180)
def test_the_ratio_says_when_it_starts(salt_line: SaltLine, network: Network, tmp_path: Path) -> None:
    """Towards the first drop the HWM ratio rises, and at the first drop it is 1, within a tenth."""
    with _scene(salt_line, network, tmp_path, 100) as scene:
        _start_subscribers(scene, "fast", "slow")
        scene.stop("slow")
        scene.push(330, [80_000], interval=0.04)
        seen: list[tuple[int, float, float]] = []  # messages the master had published, ratio, drops
        while scene.is_publishing("pusher"):
            metrics = scene.exporter.scrape()
            seen.append((scene.received("fast"), metrics.get(_RATIO), metrics.get(_DROPPED)))
            time.sleep(0.1)
        scene.resume("slow")
        scene.wait_caught_up()
        first_dropped = scene.received("slow")  # it stayed frozen to the end, so it got the first so many
        print(first_dropped, seen)  # noqa: T201 - as above
        dropping = next(index for index, (_, _, dropped) in enumerate(seen) if dropped)
        rising = [ratio for _, ratio, _ in seen[:dropping]]
        assert any(0.1 < ratio < 0.9 for ratio in rising)
        assert rising == sorted(rising)
        assert 0.9 <= seen[dropping][1] <= 1.1
        assert 0.9 <= next(ratio for published, ratio, _ in seen if published > first_dropped + _SEEN_LATER) <= 1.1


@pytest.mark.timeout(120 + 2 * _TRAFFIC_SECONDS)
def test_ordinary_traffic_loses_nothing(salt_line: SaltLine, network: Network, tmp_path: Path) -> None:
    """With minions that come and go, and jobs of 100 bytes to 1 MB, no drop is ever counted."""
    with _scene(salt_line, network, tmp_path, 1000) as scene:
        prefix = network.prefix("web2")
        for number in (1, 2, 3):
            scene.lab.start_minion(f"m{number}", living_at(f"127.6.0.{number}"), prefix)
        scene.lab.wait_minions(["m1", "m2", "m3"])
        _start_subscribers(scene, "steady", "fleeting")
        scene.publish(10**9, [1_000, 10_000, 100_000, 1_000_000], interval=0.4, target="*")  # these are answered
        scene.push(10**9, [100, 1_000, 5_000], interval=0.1)
        end = time.monotonic() + _TRAFFIC_SECONDS
        while time.monotonic() < end:
            scene.lab.restart("m1")
            scene.lab.restart("fleeting")
            time.sleep(5)
            scene.lab.kill("m2")
            scene.lab.restart("m2")
            time.sleep(5)
            assert scene.exporter.scrape().get(_DROPPED) == 0
        for name in ("publisher", "pusher"):
            assert scene.is_publishing(name)
            scene.lab.stop(name)
        scene.wait_caught_up()
        time.sleep(8)  # a drop that was suspected would be confirmed by now
        metrics = scene.exporter.scrape()
        closed = metrics.get("salt_connections_closed_total", channel="publish")
        print(metrics.get(_MESSAGES), closed, metrics.get(_LOST_ON_CLOSE))  # noqa: T201 - as above
        assert metrics.get(_DROPPED) == 0
        # Who is killed, or just has no processor, may not have taken what was sent to it in its last second.
        assert metrics.get(_LOST_ON_CLOSE) <= 20 * closed
        assert scene.received("steady") == pytest.approx(metrics.get(_MESSAGES), abs=40)
