"""The request probe over Salt's tcp transport, against a port of the test's own."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgpack
import psutil
import pytest

from salt_exporter.probes.burst import Burst
from salt_exporter.probes.message import Router
from salt_exporter.probes.request import RequestProbe
from salt_exporter.probes.results import Results

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_INTERVAL = 0.05
_TIMEOUT = 0.3
_PATIENCE = 40.0  # seconds until a test gives up

_Ping = tuple[socket.socket, dict[str, Any]]


class _Port:
    """A master's request port, which takes one connection at a time and answers when told to."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        version = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=version)
        self._listener.settimeout(_PATIENCE)
        self._connection: socket.socket | None = None
        self._unpacker = msgpack.Unpacker()
        self.address = (host, self._listener.getsockname()[1])

    def next(self) -> _Ping:
        """Return the connection and the message of the next ping."""
        while True:
            for ping in self._unpacker:
                load = ping["body"]["load"]
                assert ("clear", 3, "ping") == (ping["body"]["enc"], ping["body"]["version"], load["cmd"])
                return self.connection(), ping
            data = self.connection().recv(4096)
            if data:
                self._unpacker.feed(data)
            else:
                self.hang_up()

    def connection(self) -> socket.socket:
        """Return the connection there is, the next one if there is none."""
        if self._connection is None:
            self._connection = self._listener.accept()[0]
            self._connection.settimeout(_PATIENCE)
            self._unpacker = msgpack.Unpacker()
        return self._connection

    def hang_up(self) -> None:
        """Close the connection."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def close(self) -> None:
        """Close the connection and the port."""
        self.hang_up()
        self._listener.close()


def _answer(ping: _Ping, *, pieces: int = 1) -> None:
    """Send the load back, as the master does."""
    connection, message = ping
    frame = msgpack.packb({"head": message["head"], "body": message["body"]["load"]})
    size = -(-len(frame) // pieces)
    for start in range(0, len(frame), size):
        connection.sendall(frame[start : start + size])
        time.sleep(0.01 if pieces > 1 else 0)


class _Probe:
    """A probe that runs, and what it has found."""

    def __init__(self, address: tuple[str, int], timeout: float = _TIMEOUT) -> None:
        self.results = Results("request")
        self.own: set[tuple[bytes, int]] = set()
        self._probe = RequestProbe(
            self.results, lambda: Router("tcp", *address), self.own, _INTERVAL, timeout, Burst(lambda: 0, timeout)
        )
        self._probe.start()

    def wait(self, success: bool | None, problem: str = "") -> None:  # noqa: FBT001 - None is one of three
        """Wait until it has found this, with this in its problem."""
        self._until(lambda: self.results.read()[0] is success and problem in self.results.read()[1])

    def wait_answers(self, number: int) -> None:
        """Wait until so many answers have come, late ones among them."""
        self._until(lambda: sum(self.results.read()[2].counts) == number)

    def _until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not condition():
            assert time.monotonic() < deadline, self.results.read()
            time.sleep(0.01)

    def stop(self) -> None:
        self._probe.stop()


@pytest.fixture
def port() -> Iterator[_Port]:
    """Yield a port that listens."""
    port = _Port()
    yield port
    port.close()


@pytest.fixture
def probe(port: _Port) -> Iterator[_Probe]:
    """Yield a probe that pings the port."""
    probe = _Probe(port.address)
    yield probe
    probe.stop()


@pytest.mark.parametrize("pieces", [1, 9])
def test_success(port: _Port, probe: _Probe, pieces: int) -> None:
    """A ping that comes back is a success, in one piece or in several; all go over one connection."""
    first = port.next()
    _answer(first, pieces=pieces)
    probe.wait(success=True)
    assert first[0] is port.next()[0]


def test_timeout_and_late_answer(port: _Port, probe: _Probe) -> None:
    """Without an answer in time the probe fails; when it comes after all it is counted and the master asked anew."""
    ping = port.next()
    probe.wait(success=False, problem="no answer within")
    _answer(ping)
    probe.wait_answers(1)
    _answer(port.next())
    probe.wait(success=True)


def test_refusal(port: _Port, probe: _Probe) -> None:
    """What the master says instead of sending the load back is no answer to the ping."""
    connection, message = port.next()
    connection.sendall(msgpack.packb({"head": message["head"], "body": "bad load"}))
    probe.wait(success=False, problem="no answer within")


def test_hang_up(port: _Port, probe: _Probe) -> None:
    """When the master closes a connection over which it has answered the probe fails, and connects anew."""
    _answer(port.next())
    port.next()
    port.hang_up()
    probe.wait(success=False, problem="closed the connection")
    _answer(port.next())
    probe.wait(success=True)


def test_encryption(port: _Port, probe: _Probe) -> None:
    """A master that closes the connection at the first ping may want TLS: it cannot be known whether it answers."""
    port.next()
    port.hang_up()
    probe.wait(success=None, problem="`ssl`")


def test_nobody_listens(port: _Port) -> None:
    """Without a master the probe fails and says where it looked, without wasting processor time."""
    port.close()
    before = time.process_time()
    probe = _Probe(port.address)
    probe.wait(success=False, problem="{}:{}".format(*port.address))
    probe.stop()
    assert time.process_time() - before < _TIMEOUT / 2


@pytest.mark.parametrize(("host", "source"), [("127.0.0.1", "127.0.0.2"), ("::1", "::1")])
def test_own_connection(host: str, source: str) -> None:
    """While a connection stands, its address and port are known as our own; IPv4 connects from 127.0.0.2."""
    port = _Port(host)
    probe = _Probe(port.address)
    peer = port.connection().getpeername()
    assert source == peer[0]
    assert {(ipaddress.ip_address(source).packed, peer[1])} == probe.own
    probe.stop()
    assert set() == probe.own
    port.close()


def test_nothing_is_left_behind(port: _Port) -> None:
    """After stop there is no connection, no descriptor and no thread more than before."""
    process = psutil.Process()
    before = process.num_fds(), threading.active_count()
    probe = _Probe(port.address)
    _answer(port.next())
    probe.wait(success=True)
    probe.stop()
    with suppress(OSError):
        while port.connection().recv(4096):
            pass
    port.hang_up()
    assert before == (process.num_fds(), threading.active_count())
