"""What the web server answers: pages, formats, headers, and how long a scrape may take."""

from __future__ import annotations

import gzip
import http.client
import logging
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from salt_exporter import web
from salt_exporter.collectors import exporter
from salt_exporter.exposition import render
from salt_exporter.metric import gauge
from salt_exporter.web import scrape_timeout
from tests.unit.tools import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from salt_exporter.metric import Metric, Sample
    from tests.unit.conftest import MakeCollector, Serve, Site

LARGE = gauge("salt_test_large", "Fills a page, in a test.", "series")
SECURITY = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "Server": "salt-exporter",
    "X-Content-Type-Options": "nosniff",
}


class Reply(NamedTuple):
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes


def ask(site: Site, path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> Reply:
    """Return the answer to one request on a connection of its own."""
    with closing(http.client.HTTPConnection(*site.address, timeout=20)) as connection:
        return ask_on(connection, path, method, headers)


def ask_on(
    connection: http.client.HTTPConnection, path: str, method: str = "GET", headers: Mapping[str, str] | None = None
) -> Reply:
    """Return the answer to one request on an open connection."""
    connection.request(method, path, headers=dict(headers or {}))
    response = connection.getresponse()
    return Reply(response.status, dict(response.getheaders()), response.read())


def await_idle(site: Site, seconds: float) -> bool:
    """Wait until no scrape is under way; tell whether that happened in time."""
    deadline = time.monotonic() + seconds
    while not site.busy._idle.is_set():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.fixture(scope="module")
def site(serve: Serve, make_collector: MakeCollector, number: Metric) -> Site:
    """Return a site with one collector that always answers 7."""
    return serve([make_collector("keys", lambda: [number(7)])])


def page_of(body: bytes, parse: Callable[[str], object]) -> dict[str, float]:
    """Return the values of our own metrics on a page."""
    families: object = parse(body.decode())
    return {
        sample.name: sample.value
        for family in families  # type: ignore[attr-defined] # prometheus_client has no types here
        for sample in family.samples
        if sample.name.startswith("salt_")
    }


def test_metrics_as_text(site: Site) -> None:
    """A plain request gets text 0.0.4 with the collectors' samples, and their success and duration."""
    reply = ask(site, "/metrics")

    assert (200, "text/plain; version=0.0.4; charset=utf-8") == (reply.status, reply.headers["Content-Type"])
    page = page_of(reply.body, parse_text)
    assert (page["salt_test_number"], page["salt_exporter_collector_success"]) == (7, 1)
    assert page["salt_exporter_collector_duration_seconds"] >= 0


def test_metrics_as_openmetrics(site: Site) -> None:
    """Who accepts OpenMetrics gets it."""
    reply = ask(site, "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})

    assert reply.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert page_of(reply.body, parse_openmetrics)["salt_test_number"] == 7


@pytest.mark.parametrize(
    "accept", ["application/openmetrics-text;version=abc", "text/plain;version=x", ";;;=,", "\xff"]
)
def test_odd_accept_header_is_no_error(accept: str, site: Site) -> None:
    """A client that asks for nonsense gets the metrics all the same."""
    assert ask(site, "/metrics", headers={"Accept": accept}).status == 200


@pytest.mark.parametrize(
    ("accept", "squeezed"),
    [
        ("gzip", True),
        ("GZIP", True),
        ("deflate, gzip;q=1.0, *;q=0.5", True),
        ("br,gzip; q=0.5", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip; q=0.00, identity", False),
        ("gzipped", False),
        ("x-gzip", False),
    ],
)
def test_gzip_is_negotiated(accept: str, squeezed: bool, site: Site) -> None:  # noqa: FBT001 - the expected answer
    """The page is compressed for those who accept gzip, and for nobody else."""
    reply = ask(site, "/metrics", headers={"Accept-Encoding": accept})

    assert ("gzip" if squeezed else None) == reply.headers.get("Content-Encoding")
    body = gzip.decompress(reply.body) if squeezed else reply.body
    assert b"salt_test_number 7.0\n" in body
    assert {"Accept", "Accept-Encoding"} == {*reply.headers["Vary"].split(", ")}
    assert len(reply.body) == int(reply.headers["Content-Length"])


@pytest.mark.parametrize("path", ["/metrics", "/-/healthy", "/-/ready", "/nothing"])
def test_head_is_get_without_the_body(path: str, site: Site) -> None:
    """HEAD has the status and headers of GET, no body follows, and the connection can go on."""
    with closing(http.client.HTTPConnection(*site.address, timeout=20)) as connection:
        head, get = ask_on(connection, path, "HEAD"), ask_on(connection, path)

    volatile = {"Date"} | ({"Content-Length"} if path == "/metrics" else set())  # durations are not always as long
    assert (head.status, head.body) == (get.status, b"")
    assert head.headers.keys() == get.headers.keys()
    assert [] == [name for name in head.headers if name not in volatile and head.headers[name] != get.headers[name]]


@pytest.mark.parametrize("path", ["/nothing", "/metrics/", "/metrics2", "/-/", "//metrics", "/%ff", "/../etc/passwd"])
def test_unknown_path_is_not_found(path: str, site: Site) -> None:
    """Any other path is a 404 that says so, for any method."""
    for method in ("GET", "POST", "DELETE"):
        reply = ask(site, path, method)

        assert (404, b"404 Not Found\n") == (reply.status, reply.body)
        assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("path", ["/metrics", "/-/healthy", "/-/ready"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"])
def test_other_methods_are_not_allowed(method: str, path: str, site: Site) -> None:
    """Nothing can be sent to the exporter: the answer is 405 and names what is allowed."""
    reply = ask(site, path, method)

    assert (405, "GET, HEAD") == (reply.status, reply.headers["Allow"])


def test_healthy(site: Site) -> None:
    """The exporter is healthy as long as it answers, whatever the master does."""
    assert ask(site, "/-/healthy").body == b"salt-exporter is healthy.\n"


def test_ready_turns_from_503_to_200(serve: Serve) -> None:
    """The exporter is ready when it has looked at the master once."""
    site = serve()
    site.ready = False
    assert ask(site, "/-/ready").status == 503
    site.ready = True
    assert (200, b"salt-exporter is ready.\n") == ask(site, "/-/ready")[::2]


@pytest.mark.parametrize("path", ["/metrics", "/-/healthy", "/-/ready", "/nothing"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_security_headers_are_on_every_answer(method: str, path: str, site: Site) -> None:
    """No answer is cached, framed, sniffed or allowed to load anything; errors included."""
    assert ask(site, path, method).headers.items() >= SECURITY.items()


def test_telemetry_path_is_no_pattern(serve: Serve) -> None:
    """The metrics are where they were configured to be and nowhere else; a dot is a dot."""
    site = serve(telemetry_path="/salt.metrics")

    assert [200, 404, 404] == [ask(site, path).status for path in ("/salt.metrics", "/saltXmetrics", "/metrics")]


class Failing(web.Handler):
    """A page with a bug."""

    def get(self) -> None:
        """Fail."""
        raise ValueError("secret")


def test_our_own_failure_is_a_bare_500(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """A bug of ours is answered with 500 and not a word more; what happened stands in the log."""
    site = serve(more=[("/failing", Failing)])

    reply = ask(site, "/failing")

    assert (500, b"500 Internal Server Error\n") == (reply.status, reply.body)
    assert "ValueError" in caplog.text


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("15", 14.5),
        ("10.5", 10.0),
        ("1", 0.5),
        ("0.2", 0.1),
        (" 5 ", 4.5),
        ("3600", web.MAX_TIMEOUT - web.MARGIN),
        (None, 9.5),
        ("", 9.5),
        ("0", 9.5),
        ("-1", 9.5),
        ("nan", 9.5),
        ("inf", 9.5),
        ("1e999", 9.5),
        ("soon", 9.5),
        ("10, 20", 9.5),
    ],
)
def test_scrape_timeout(header: str | None, seconds: float) -> None:
    """Prometheus' own timeout less a margin holds, at most 2 minutes; nonsense is as good as no header."""
    assert seconds == pytest.approx(scrape_timeout(header))


def test_scrape_ends_before_prometheus_gives_up(serve: Serve, make_collector: MakeCollector, number: Metric) -> None:
    """The header bounds the whole answer: a collector that is too slow for it fails, the others are there in time."""
    release = threading.Event()

    def slow() -> list[Sample]:
        release.wait(20)
        return []

    site = serve([make_collector("slow", slow, (LARGE,)), make_collector("keys", lambda: [number(7)])])

    began = time.monotonic()
    reply = ask(site, "/metrics", headers={"X-Prometheus-Scrape-Timeout-Seconds": "1"})
    took = time.monotonic() - began
    release.set()

    assert took < 8
    assert b'salt_exporter_collector_success{collector="slow"} 0.0\n' in reply.body
    assert b"salt_test_number 7.0\n" in reply.body
    assert b"salt_test_large" not in reply.body


@pytest.mark.parametrize("leaves", ["while collecting", "while rendering"])
def test_client_that_left_is_no_error(
    leaves: str,
    serve: Serve,
    make_collector: MakeCollector,
    number: Metric,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Who hangs up before the answer is there, as Prometheus does at its timeout, leaves no trace in the log."""
    begun, went_on = threading.Semaphore(0), threading.Semaphore(0)
    rendered = []

    def collect() -> list[Sample]:
        if leaves == "while collecting":
            begun.release()
            went_on.acquire(timeout=10)
        return [number(7)]

    def slow_render(*arguments: Any) -> tuple[bytes, str]:  # noqa: ANN401 - those of render
        rendered.append(arguments)
        if leaves == "while rendering":
            begun.release()
            went_on.acquire(timeout=10)
        return render(*arguments)

    monkeypatch.setattr(web, "render", slow_render)
    site = serve([make_collector("keys", collect)])
    with caplog.at_level(logging.INFO):
        with site.connect() as connection:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            assert begun.acquire(timeout=5)
        time.sleep(0.1)  # until the server knows
        went_on.release()
        assert await_idle(site, 5)
        went_on.release()
        assert ask(site, "/metrics").status == 200  # whatever was to come of it has come

    assert caplog.records == []
    assert len(rendered) == (1 if leaves == "while collecting" else 2)  # nothing is rendered for nobody


@pytest.fixture(scope="module")
def large(serve: Serve, make_collector: MakeCollector) -> Site:
    """Return a site whose page has 5 MB, more than the kernel takes for a client that does not read."""
    samples = [LARGE(1, series=f"{number:0240}") for number in range(20_000)]
    return serve([make_collector("keys", lambda: samples, (LARGE,))])


def test_client_that_left_halfway_is_let_go(large: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Who hangs up in the middle of the answer is forgotten at once, not after the time to read it."""
    with large.connect(receive_buffer=4096) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
        assert not await_idle(large, 0.1)
    assert await_idle(large, 5)
    assert caplog.records == []


def test_client_that_never_reads_is_cut(
    large: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Who does not read the answer is cut off, so that its memory is free, and a warning says so."""
    assert web._WRITE_TIMEOUT <= 30
    monkeypatch.setattr(web, "_WRITE_TIMEOUT", 0.3)
    with large.connect(receive_buffer=4096) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
        assert await_idle(large, 5)
        received = 0
        with pytest.raises(ConnectionError):  # noqa: PT012 - the end comes some time
            while data := connection.recv(1 << 16):
                received += len(data)
            raise ConnectionError
    assert received < 5_000_000
    assert [record.getMessage() for record in caplog.records] == [
        "127.0.0.1 did not read its answer within 0 s: closed"
    ]


def test_slow_reader_gets_the_whole_answer(large: Site) -> None:
    """Who reads slowly, but in time, gets all of it."""
    with large.connect(receive_buffer=4096) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        time.sleep(0.5)
        body = b""
        while data := connection.recv(1 << 16):
            body += data
    head, _blank, page = body.partition(b"\r\n\r\n")

    assert f"Content-Length: {len(page)}".encode() in head
    assert page.count(b"\nsalt_test_large{") == 20_000


def test_requests_of_a_client_that_left_are_dropped(
    serve: Serve, make_collector: MakeCollector, number: Metric
) -> None:
    """A thousand requests in one go from somebody who then hangs up do not become a thousand scrapes."""
    runs = []

    def collect() -> list[Sample]:
        runs.append(time.monotonic())
        time.sleep(0.1)
        return [number(7)]

    site = serve([make_collector("keys", collect)])
    with site.connect() as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
        wait_until(lambda: runs)
    scrapes = 1
    deadline = time.monotonic() + 0.7
    while time.monotonic() < deadline:
        scrapes = max(scrapes, site.busy._number)
        time.sleep(0.01)

    assert await_idle(site, 5)
    assert scrapes == 1
    assert len(runs) <= 3  # that it left shows when it is answered


def test_success_metric_is_the_exporters(site: Site) -> None:
    """The page announces success and duration once each, although no exporter collector runs here."""
    body = ask(site, "/metrics").body.decode()

    for metric in (exporter.COLLECTOR_SUCCESS, exporter.COLLECTOR_DURATION):
        assert body.count(f"# TYPE {metric.name} gauge\n") == 1
