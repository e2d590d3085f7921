"""What one client, or all together, can cost the exporter: the attacks it must stand, on real sockets."""

from __future__ import annotations

import asyncio
import gc
import http.client
import logging
import re
import resource
import socket
import threading
import time
import warnings
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import pytest
from tornado.web import Application

from salt_exporter.server import HEADER_TIMEOUT, BoundedServer, ListenError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from salt_exporter.metric import Metric, Sample
    from tests.unit.conftest import MakeCollector, Serve, Site

REQUEST = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
REFUSED = b"HTTP/1.1 400 Bad Request\r\n"
GIVE_UP = 8.0  # seconds after which an attack has won

# What is sent at first, and what every 0.2 s from then on: each keeps a connection busy without ever making a request.
SLOW_ATTACKS = {
    "silence": (b"", b""),
    "header drip": (REQUEST + b"X: ", b"x"),
    "line drip": (b"", b"G"),
    "body never sent": (REQUEST + b"Content-Length: 1000\r\n\r\n", b""),
    "body drip": (REQUEST + b"Content-Length: 1000\r\n\r\n", b"x"),
    "chunk drip": (REQUEST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "idle after a request": (REQUEST + b"\r\n", b""),
    "drip after a request": (REQUEST + b"\r\n", b"G"),
}


def attack(connection: socket.socket, first: bytes, drip: bytes) -> float:
    """Send, drip and read; return after how many seconds the server closed the connection."""
    connection.settimeout(0.2)
    began = time.monotonic()
    try:
        connection.sendall(first)
        while time.monotonic() - began < GIVE_UP:
            try:
                if not connection.recv(4096):
                    break
            except TimeoutError:
                connection.sendall(drip)
    except ConnectionError:
        pass
    return time.monotonic() - began


@pytest.fixture(scope="module")
def site(serve: Serve, make_collector: MakeCollector, number: Metric) -> Site:
    """Return a site with metrics, and enough connections for everybody here."""
    return serve([make_collector("keys", lambda: [number(7)])], max_connections=64)


@pytest.fixture(scope="module")
def slow_attacks(site: Site) -> dict[str, float]:
    """Run all slow attacks at once; return after how many seconds each was ended."""
    ended: dict[str, float] = {}

    def run(name: str) -> None:
        with site.connect() as connection:
            ended[name] = attack(connection, *SLOW_ATTACKS[name])

    threads = [threading.Thread(target=run, args=(name,)) for name in SLOW_ATTACKS]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    scrapes = []
    while time.monotonic() - began < 1:
        scrape_began = time.monotonic()
        assert status(site, "/metrics") == 200
        scrapes.append(time.monotonic() - scrape_began)
    ended["scrape meanwhile"] = sorted(scrapes)[len(scrapes) // 2]
    for thread in threads:
        thread.join()
    return ended


def status(site: Site, path: str = "/-/healthy", source: str = "127.0.0.1") -> int | None:
    """Return the status of a request from this address, None if the connection is refused."""
    with site.connect(source) as connection:
        try:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            answer.read()
        except (ConnectionError, http.client.HTTPException):
            return None
        return answer.status


def answer_to(site: Site, data: bytes) -> bytes:
    """Send these bytes and return all that comes back until the server closes the connection."""
    received = b""
    with site.connect() as connection:
        try:
            connection.sendall(data)
            while part := connection.recv(1 << 16):
                received += part
        except ConnectionError:
            pass
    return received


def eventually(holds: Callable[[], bool]) -> bool:
    """Wait a few seconds for something to become true."""
    deadline = time.monotonic() + 5
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.parametrize("name", SLOW_ATTACKS)
def test_slow_client_is_cut(name: str, slow_attacks: dict[str, float]) -> None:
    """Who keeps a connection without making a request loses it after 3 s, bytes dripping in or not."""
    assert HEADER_TIMEOUT - 0.5 < slow_attacks[name] < GIVE_UP - 1


def test_scrapes_go_on_meanwhile(slow_attacks: dict[str, float]) -> None:
    """While all these hold their connections, a scrape is answered as if they were not there."""
    assert slow_attacks["scrape meanwhile"] < 0.5


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (REQUEST + b"X: " + b"x" * 100_000 + b"\r\n\r\n", b""),
        (REQUEST + b"X: x\r\n" * 20_000 + b"\r\n", b""),
        (b"GET /" + b"x" * 100_000, b""),
        (REQUEST + b"Content-Length: 1025\r\n\r\n", REFUSED),
        (REQUEST + b"Content-Length: 99999999999999999999\r\n\r\n", REFUSED),
        (REQUEST + b"Content-Length: -1\r\n\r\n", REFUSED),
        (REQUEST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", REFUSED),
        (REQUEST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", REFUSED),
        (REQUEST + b"Transfer-Encoding: chunked\r\n\r\n" + b"400\r\n" + b"x" * 1024 + b"\r\n1\r\nx\r\n", REFUSED),
        (REQUEST + b"Transfer-Encoding: chunked\r\n\r\nffffffffff\r\n", REFUSED),
        (REQUEST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", REFUSED),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) + b"\r\n\r\n", REFUSED),
        (b"GET\r\n\r\n", REFUSED),
        (b"GET / HTTP/9.9\r\n\r\n", REFUSED),
        (b"GET / HTTP/1.1\r\n\r\n", REFUSED),
        (b"GET / HTTP/1.1\r\nHost: x\r\n no header\r\n\r\n", REFUSED),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", REFUSED),
        (b"\x00" * 9000, b""),
    ],
)
def test_what_is_no_request_is_refused_at_once(
    data: bytes, answer: bytes, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """Headers and bodies that are too large, and whatever is no HTTP, end the connection without a line in the log."""
    began = time.monotonic()
    with caplog.at_level(logging.INFO):
        received = answer_to(site, data)

    assert received.startswith(answer)
    assert OK not in received
    assert time.monotonic() - began < HEADER_TIMEOUT - 0.5
    assert caplog.records == []
    assert status(site) == 200


def test_mistake_of_a_client_shows_at_debug_level(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Who looks for the reason of a refused request finds it with log.level debug."""
    with caplog.at_level(logging.DEBUG):
        answer_to(site, b"GET / HTTP/1.1\r\n\r\n")

    assert "Missing Host header" in caplog.text


@pytest.mark.parametrize(
    "rest",
    [b"X: " + b"x" * 7000 + b"\r\n\r\n", b"Content-Length: 1024\r\n\r\n" + b"x" * 1024],
    ids=["header", "body"],
)
def test_what_is_within_the_limits_is_served(rest: bytes, site: Site) -> None:
    """A header of 7 kB is allowed, and so is a body of 1 kB, which nobody reads."""
    assert answer_to(site, REQUEST + b"Connection: close\r\n" + rest).startswith(OK)


def test_bad_form_is_the_affair_of_the_client(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """A body that Tornado itself would read, and finds wrong, is refused without a line in the log."""
    form = b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 3\r\n\r\nabc"

    assert answer_to(site, REQUEST + b"Connection: close\r\n" + form).startswith(REFUSED)
    assert caplog.records == []


def test_connection_is_kept_alive(site: Site) -> None:
    """HTTP/1.1 clients make many requests on one connection, as Prometheus does."""
    with closing(http.client.HTTPConnection(*site.address, timeout=10)) as connection:
        connection.connect()
        first = connection.sock
        for path in ("/metrics", "/-/healthy", "/nothing", "/metrics"):
            connection.request("GET", path)
            connection.getresponse().read()
            assert connection.sock is first


def test_old_clients_are_served(site: Site) -> None:
    """HTTP/1.0 gets its answer and the end of the connection."""
    received = answer_to(site, b"GET /-/healthy HTTP/1.0\r\n\r\n")

    assert received.startswith(OK)
    assert received.endswith(b"\r\n\r\nsalt-exporter is healthy.\n")


def test_pipelined_requests_are_answered_in_order_until_garbage_comes(site: Site) -> None:
    """Requests sent in one go get their answers one by one; the first garbage ends the connection."""
    paths = ["/-/healthy", "/nothing", "/-/ready"]
    requests = "".join(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n" for path in paths)

    received = answer_to(site, requests.encode() + b"BLA\x00\r\n\r\n" + requests.encode())

    lines = [line for line in received.split(b"\r\n") if b"HTTP/1.1 " in line]
    assert [line[line.index(b"HTTP/1.1 ") :][9:12] for line in lines] == [b"200", b"404", b"200", b"400"]


def test_flood_while_a_scrape_is_under_way_is_not_read(
    serve: Serve, make_collector: MakeCollector, number: Metric
) -> None:
    """Who keeps sending while it waits for an answer has to wait with that too: nothing of it is kept in memory."""
    release = threading.Event()

    def wait() -> list[Sample]:
        release.wait(10)
        return [number(7)]

    site = serve([make_collector("keys", wait)])
    sent = 0
    with site.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        connection.settimeout(0.3)
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            while sent < 64 << 20:
                sent += connection.send(REQUEST * 100)
        except (TimeoutError, ConnectionError):
            pass
    release.set()

    assert sent < 16 << 20  # the kernel's buffers
    assert status(site) == 200


@pytest.fixture
def small(serve: Serve) -> Site:
    """Return a site that takes 8 connections, 4 of them from one address."""
    return serve(max_connections=8)


@pytest.fixture
def held(small: Site) -> Iterator[Callable[[str, int], list[socket.socket]]]:
    """Return a function that opens connections from an address, and holds them until the test ends."""
    with ExitStack() as stack:

        def hold(source: str, number: int) -> list[socket.socket]:
            return [stack.enter_context(small.connect(source)) for _ in range(number)]

        yield hold


def refused(connection: socket.socket) -> bool:
    """Tell whether the server has closed a connection on which nothing was sent."""
    connection.settimeout(2)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_one_peer_cannot_hold_every_connection(small: Site, held: Callable[[str, int], list[socket.socket]]) -> None:
    """One address gets half of the connections; beyond that it is refused and others are served."""
    held("127.0.0.2", 4)

    assert refused(*held("127.0.0.2", 1))
    assert status(small, source="127.0.0.2") is None
    assert status(small, source="127.0.0.3") == 200


def test_all_peers_together_are_bounded(small: Site, held: Callable[[str, int], list[socket.socket]]) -> None:
    """Many addresses together get all the connections there are and not one more."""
    for source in ("127.0.0.2", "127.0.0.3"):
        held(source, 4)

    assert refused(*held("127.0.0.4", 1))
    assert status(small, source="127.0.0.4") is None


def test_connections_leave_file_descriptors_to_the_rest(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """However many connections are allowed, half of the file descriptors are for other things, and it is said."""
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (8, 8))
    site = serve(max_connections=100)

    with ExitStack() as stack:
        for source in ("127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.0.3"):
            stack.enter_context(site.connect(source))
        assert status(site, source="127.0.0.4") is None
    assert caplog.records[0].getMessage() == ("at most 4 HTTP connections: the limit of open files is 8")


def test_closed_connections_make_room(small: Site, held: Callable[[str, int], list[socket.socket]]) -> None:
    """A connection that ends, in whatever way, frees its place."""
    silent, resetting, used, *_ = held("127.0.0.2", 4)
    assert status(small, source="127.0.0.2") is None

    silent.close()
    assert eventually(lambda: status(small, source="127.0.0.2") == 200)
    held("127.0.0.2", 1)
    resetting.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    resetting.close()
    assert eventually(lambda: status(small, source="127.0.0.2") == 200)
    held("127.0.0.2", 1)
    used.sendall(b"garbage\r\n\r\n")
    assert eventually(lambda: status(small, source="127.0.0.2") == 200)


def test_refusals_are_counted_and_logged_once(
    small: Site, held: Callable[[str, int], list[socket.socket]], caplog: pytest.LogCaptureFixture
) -> None:
    """A storm of connections is one warning, not one for each."""
    held("127.0.0.2", 4)
    storm = held("127.0.0.2", 20)

    assert all(map(refused, storm))
    assert small.server.refused == 20
    assert [record.getMessage() for record in caplog.records] == ["too many HTTP connections (4): refusing 127.0.0.2"]


def listen(*addresses: tuple[str, int]) -> list[tuple[str, int]]:
    """Listen on addresses, and stop again; return where."""

    async def start_and_stop() -> list[tuple[str, int]]:
        server = BoundedServer(Application(), max_connections=2)
        try:
            return server.listen_on(addresses)
        finally:
            server.stop()

    return asyncio.run(start_and_stop())


def refusal_to_listen(*addresses: tuple[str, int]) -> str:
    """Return why these addresses cannot be listened on."""
    # Tornado's bind_sockets leaves a socket that it could not bind to the garbage collector.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        with pytest.raises(ListenError) as refusal:
            listen(*addresses)
        message = str(refusal.value)
        del refusal
        gc.collect()
    return message


def test_every_address_is_listened_on() -> None:
    """Several addresses are possible, IPv6 too; what is returned are the real ports."""
    (one, first), (two, second) = listen(("127.0.0.1", 0), ("::1", 0))

    assert (one, two) == ("127.0.0.1", "::1")
    assert min(first, second) > 0


def test_empty_host_means_every_interface() -> None:
    """Without a host the port is open on all addresses, of IPv4 and IPv6 alike."""
    assert {"0.0.0.0", "::"} == {host for host, _port in listen(("", 0))}


@pytest.mark.parametrize("host", ["a..b", "192.0.2.1"])
def test_address_that_cannot_be_listened_on_is_named(host: str) -> None:
    """A host that can be no name, or an address that is not ours: the error names it."""
    assert refusal_to_listen(("127.0.0.1", 0), (host, 14890)).startswith(f"cannot listen on {host}:14890: ")


def test_taken_port_is_named(site: Site) -> None:
    """A port that somebody else listens on is named with the reason."""
    port = site.address[1]

    refusal = refusal_to_listen(("127.0.0.1", port))

    assert re.fullmatch(rf"cannot listen on 127\.0\.0\.1:{port}: .*Address already in use", refusal)
