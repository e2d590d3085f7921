"""The request probe against a router of the test's own: in time, late, never; one ping at a time; no traces."""

from __future__ import annotations

import ipaddress
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import msgpack
import psutil
import pytest
import zmq

from salt_exporter.errors import SourceError
from salt_exporter.probes import request
from salt_exporter.probes.burst import Burst
from salt_exporter.probes.message import Router
from salt_exporter.probes.request import RequestProbe
from salt_exporter.probes.results import Results

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_INTERVAL = 0.05
_TIMEOUT = 0.2
_PATIENCE = 40.0  # seconds until a test gives up


class _Router:
    """A master's request port that answers when told to."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.IPV6, ":" in host)
        at = f"tcp://[{host}]" if ":" in host else f"tcp://{host}"
        if port:
            self._socket.bind(f"{at}:{port}")
        self.address = (host, port or self._socket.bind_to_random_port(at))

    def take(self, timeout: float = _PATIENCE) -> tuple[bytes, dict[str, Any]] | None:
        """Return the identity and the load of the next ping, None if there is none in time."""
        if not self._socket.poll(round(timeout * 1000)):
            return None
        identity, empty, payload = self._socket.recv_multipart()
        message = msgpack.unpackb(payload)
        assert (b"", "clear", 3, "ping") == (empty, message["enc"], message["version"], message["load"]["cmd"])
        return identity, message["load"]

    def next(self) -> tuple[bytes, dict[str, Any]]:
        """Return the next ping, which must come."""
        ping = self.take()
        assert ping
        return ping

    def answer(self, ping: tuple[bytes, dict[str, Any]]) -> None:
        """Send the load back, as the master does."""
        self._socket.send_multipart([ping[0], b"", msgpack.packb(ping[1])])

    def serve(self, probe: _Probe) -> int:
        """Answer every ping until the probe succeeds, for a late answer makes it ask again; return how many it took."""
        deadline = time.monotonic() + _PATIENCE
        answered = 0
        while not probe.success:
            assert time.monotonic() < deadline
            ping = self.take(0.01)
            if ping:
                self.answer(ping)
                answered += 1
        return answered

    def close(self) -> None:
        """Close the port and all connections."""
        self._context.destroy(linger=0)


class _Probe:
    """A probe that runs, and what it has found."""

    def __init__(
        self,
        address: Callable[[], tuple[str, int]],
        interval: float = _INTERVAL,
        timeout: float = _TIMEOUT,
        transport: str = "zeromq",
        workers: int = 0,
    ) -> None:
        self.results = Results("request")
        self.own: set[tuple[bytes, int]] = set()
        self.burst = Burst(lambda: workers, timeout)
        self._probe = RequestProbe(
            self.results, lambda: Router(transport, *address()), self.own, interval, timeout, self.burst
        )
        self._probe.start()

    @property
    def success(self) -> bool | None:
        return self.results.read()[0]

    @property
    def problem(self) -> str:
        return self.results.read()[1]

    @property
    def answers(self) -> int:
        return sum(self.results.read()[2].counts)

    def wait(self, condition: Callable[[_Probe], bool]) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + _PATIENCE
        while not condition(self):
            assert time.monotonic() < deadline, self.results.read()
            time.sleep(0.01)

    def stop(self) -> None:
        self._probe.stop()


@pytest.fixture
def router() -> Iterator[_Router]:
    """Yield a router that listens."""
    router = _Router()
    yield router
    router.close()


@pytest.fixture
def probe(router: _Router) -> Iterator[_Probe]:
    """Yield a probe that pings the router."""
    probe = _Probe(lambda: router.address)
    yield probe
    probe.stop()


def test_success(router: _Router) -> None:
    """Each answer is a success with a duration; the next ping follows after the interval, over the same connection."""
    probe = _Probe(lambda: router.address, timeout=_PATIENCE)
    first = router.next()
    assert (None, 0) == (probe.success, probe.answers)
    router.answer(first)
    second = router.next()
    assert (True, "", 1) == (probe.success, probe.problem, probe.answers)
    assert first[0] == second[0]
    assert second[1]["asked"] - first[1]["asked"] >= _INTERVAL
    router.answer(second)
    probe.wait(lambda probe: probe.answers == 2)
    probe.stop()


def test_duration(router: _Router) -> None:
    """The duration is the time from ping to answer."""
    probe = _Probe(lambda: router.address, timeout=_PATIENCE)
    ping = router.next()
    time.sleep(0.1)
    router.answer(ping)
    probe.wait(lambda probe: probe.answers == 1)
    probe.stop()
    assert 0.1 <= probe.results.read()[2].sum < _PATIENCE


def test_timeout(router: _Router, probe: _Probe) -> None:
    """A ping without an answer is a failure that says so, and no duration."""
    router.next()
    probe.wait(lambda probe: probe.success is False)
    assert probe.problem.startswith("no answer within 0.2 s")
    assert 0 == probe.answers


def test_late_answer(router: _Router) -> None:
    """A late answer is counted with its real duration and makes the probe ask again at once."""
    probe = _Probe(lambda: router.address, interval=1000.0)  # so what follows is not the next regular ping
    ping = router.next()
    probe.wait(lambda probe: probe.success is False)
    router.answer(ping)
    again = router.next()
    assert (False, 1) == (probe.success, probe.answers)
    assert probe.results.read()[2].sum >= _TIMEOUT
    router.answer(again)
    more = router.serve(probe)
    probe.stop()
    assert 2 + more == probe.answers


def test_burst(router: _Router) -> None:
    """As many pings as there are workers go out at once; what remains unanswered is stuck, until it is answered."""
    probe = _Probe(lambda: router.address, workers=3)
    try:
        pings = [router.next() for _ in range(4)]
        assert 1 == len({identity for identity, _ in pings})
        for ping in (pings[0], pings[3]):
            router.answer(ping)
        probe.wait(lambda probe: probe.burst.stuck == 2)
        router.answer(pings[1])
        probe.wait(lambda probe: probe.burst.stuck == 1)
        router.answer(pings[2])
        probe.wait(lambda probe: probe.burst.stuck == 0)
        assert 1 == probe.answers  # those of a burst tell no time
        assert probe.success
    finally:
        probe.stop()


def test_burst_is_forgotten_with_its_connection(router: _Router) -> None:
    """Whoever has been restarted is asked anew, and what the old connection did not answer says nothing."""
    probe = _Probe(lambda: router.address, workers=2)
    try:
        for _ in range(3):
            router.answer(router.next())
        probe.wait(lambda probe: probe.burst.stuck == 0)
        router.close()
        probe.wait(lambda probe: probe.burst.stuck is None)
        again = _Router(port=router.address[1])
        try:
            for _ in range(3):
                again.answer(again.next())
            probe.wait(lambda probe: probe.burst.stuck == 0)
        finally:
            again.close()
    finally:
        probe.stop()


def test_back_off(router: _Router, probe: _Probe) -> None:
    """Unanswered pings follow each other at pauses that double, and never is one sent while another is waited for."""
    asked = [router.next()[1]["asked"] for _ in range(5)]
    for number in range(4):
        assert asked[number + 1] - asked[number] >= _TIMEOUT + _INTERVAL * 2**number
    assert probe.success is False


def test_back_off_is_limited(router: _Router, probe: _Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pause grows to its limit and not beyond."""
    monkeypatch.setattr(request, "_LONGEST_PAUSE", _INTERVAL)
    asked = [router.next()[1]["asked"] for _ in range(6)]
    assert asked[5] - asked[4] < 2 * (_TIMEOUT + _INTERVAL) + 1
    assert probe.success is False


def test_back_off_ends_with_success(router: _Router, probe: _Probe) -> None:
    """After a success the first failure is followed by a short pause again."""
    for _ in range(5):
        router.next()
    router.serve(probe)
    asked = [router.next()[1]["asked"] for _ in range(2)]
    assert asked[1] - asked[0] < _TIMEOUT + 2**5 * _INTERVAL


def test_refusal(router: _Router, probe: _Probe) -> None:
    """What the master says instead of sending the load back is no answer to the ping."""
    identity, _load = router.next()
    router._socket.send_multipart([identity, b"", msgpack.packb("bad load")])
    probe.wait(lambda probe: probe.success is False)
    assert 0 == probe.answers


def test_restart(router: _Router, probe: _Probe) -> None:
    """When the master comes back the probe connects anew, with another identity."""
    ping = router.next()
    router.answer(ping)
    router.serve(probe)
    router.close()
    probe.wait(lambda probe: probe.success is False)
    again = _Router(*router.address)
    try:
        ping_again = again.next()
        again.answer(ping_again)
        again.serve(probe)
        assert ping[0] != ping_again[0]
    finally:
        again.close()


def test_unique_identities(router: _Router) -> None:
    """No two probes share an identity, for the router hands replies over to whoever claims one."""
    probes = [_Probe(lambda: router.address) for _ in range(5)]
    identities = {router.next()[0] for _ in range(5)}
    for probe in probes:
        probe.stop()
    assert 5 == len(identities)


def test_nobody_listens() -> None:
    """Without a master the probe fails and says where it looked."""
    router = _Router()
    router.close()
    probe = _Probe(lambda: router.address)
    probe.wait(lambda probe: probe.success is False)
    probe.stop()
    assert f"127.0.0.1:{router.address[1]}" in probe.problem


def test_nowhere_to_ask() -> None:
    """Where no ping is possible the probe neither succeeds nor fails, and says why."""

    def nowhere() -> tuple[str, int]:
        raise SourceError("the master speaks something else")

    probe = _Probe(nowhere)
    probe.wait(lambda probe: bool(probe.problem))
    probe.stop()
    assert (None, "the master speaks something else") == (probe.success, probe.problem)


@pytest.mark.parametrize(("host", "source"), [("127.0.0.1", "127.0.0.2"), ("::1", "::1")])
def test_own_connection(host: str, source: str) -> None:
    """While a connection stands, its address and port are known as our own; IPv4 connects from 127.0.0.2."""
    router = _Router(host)
    probe = _Probe(lambda: router.address)
    ping = router.next()
    peers = [
        connection.laddr
        for connection in psutil.Process().net_connections("tcp")
        if connection.status == psutil.CONN_ESTABLISHED and connection.raddr[:2] == router.address
    ]
    assert [source] == [peer[0] for peer in peers]
    assert {(ipaddress.ip_address(source).packed, peers[0][1])} == probe.own
    router.answer(ping)
    probe.stop()
    assert set() == probe.own
    router.close()


def test_no_zeromq_without_a_probe() -> None:
    """What commands that look once need does not load ZeroMQ."""
    program = "import sys, salt_exporter.cli, salt_exporter.commands.minions; sys.exit('zmq' in sys.modules)"
    assert 0 == subprocess.run([sys.executable, "-c", program], check=False).returncode


def test_nothing_is_left_behind(router: _Router) -> None:
    """After stop there is no connection, no descriptor and no thread more than before, answered or not."""
    process = psutil.Process()
    before = (process.num_fds(), len(process.net_connections()), threading.active_count())
    for is_answered in (True, False):
        probe = _Probe(lambda: router.address)
        ping = router.next()
        if is_answered:
            router.answer(ping)
            router.serve(probe)
        probe.stop()
    deadline = time.monotonic() + _PATIENCE
    while True:  # the router closes its ends when it has seen ours close
        after = (process.num_fds(), len(process.net_connections()), threading.active_count())
        if after == before or time.monotonic() > deadline:
            break
        time.sleep(0.01)
    assert before == after
