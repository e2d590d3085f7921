"""Whatever a client sends, the daemon answers or hangs up, soon, has no bug to tell of, and serves the next one."""

from __future__ import annotations

import re
import socket
import time
from typing import TYPE_CHECKING, Final

import psutil
import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz.test_fuzz_readers import EXAMPLES, mutated
from tests.unit.daemons import Daemon, config_dir, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

_MEMORY: Final = 120 << 20  # bytes
_ANSWER: Final = re.compile(rb"HTTP/1\.1 [1-5]\d\d ")
_SEEDS: Final = [
    b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Prometheus-Scrape-Timeout-Seconds: 5\r\nAccept-Encoding: gzip\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1\r\n\r\n",
    b"GET /api/v1/losses?since=1h&minion=web1&limit=5&cause=not_connected HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /api/v1/minions?state=present HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /-/ready HTTP/1.0\r\n\r\n",
    b"GET /?page=2&minion=%41 HTTP/1.1\r\nHost: x\r\nAuthorization: Basic cHJvbWV0aGV1czp4\r\n\r\n",
    b"POST /api/v1/jobs HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 3\r\n\r\na=b",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"HEAD /-/healthy HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n",
]

pytestmark = pytest.mark.timeout(0 if EXAMPLES > 1000 else 180)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Yield a daemon without a master, that takes as many connections as come."""
    folder = tmp_path_factory.mktemp("fuzzed")
    daemon = Daemon(folder / "own", "--web.max-connections", "1000", config_dir=config_dir(folder / "master"))
    try:
        daemon.await_start()
        assert eventually(daemon.is_ready)
        yield daemon
    finally:
        daemon.process.kill()
        daemon.process.wait()


def _sent(port: int, request: bytes) -> bytes:
    """Send bytes and no more, and return all that comes back."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(1 << 16):
                answer += piece
        except ConnectionError:  # it has had enough
            pass
    return answer


def test_changed_requests_are_answered_or_refused(daemon: Daemon) -> None:
    """Requests, changed here and there, get an answer of HTTP or none; no bug comes to light, and no memory is lost."""

    @given(mutated(_SEEDS))
    @settings(max_examples=EXAMPLES, database=None, suppress_health_check=list(HealthCheck))
    def send(request: bytes) -> None:
        began = time.monotonic()
        answer = _sent(daemon.port, request)
        assert not answer or _ANSWER.match(answer)
        assert b"HTTP/1.1 500" not in answer
        assert time.monotonic() - began < 20

    send()
    assert 200 == daemon.get()[0]
    assert "raceback" not in daemon.log()
    assert psutil.Process(daemon.process.pid).memory_info().rss < _MEMORY
