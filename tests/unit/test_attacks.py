"""The running daemon under attack: by clients of its web server, and by names that come from the network."""

from __future__ import annotations

import base64
import html
import http.client
import re
import signal
import socket
import ssl
import statistics
import threading
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import bcrypt
import psutil
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from tests.unit.certificates import Authority
from tests.unit.daemons import PATIENCE, START, Daemon, config_dir, eventually
from tests.unit.test_status import TAGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MEMORY = 120 << 20  # bytes that the daemon may take while it is attacked
REQUEST = b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Prometheus-Scrape-Timeout-Seconds: 15\r\nConnection: close\r\n\r\n"
HOSTILE = (
    "new\nline",
    'quote"} 1',
    "back\\slash",
    "<script>alert(1)",  # a file's name holds no slash
    "# HELP salt_fake Fake.",
    "\x1b[31mred",
    "x" * 250,
    "é\u202e",
)


def answer_on(connection: socket.socket, request: bytes = REQUEST) -> int | None:
    """Return the status of a request on a connection, None if there is none."""
    try:
        connection.sendall(request)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        answer.read()
    except (OSError, http.client.HTTPException):
        return None
    return answer.status


def connect(daemon: Daemon, source: str = "127.0.0.1") -> socket.socket:
    """Return a connection to the daemon from an address of the loopback."""
    return socket.create_connection(("127.0.0.1", daemon.port), timeout=PATIENCE, source_address=(source, 0))


@pytest.fixture(scope="module")
def daemon(start: Callable[..., Daemon], tmp_path_factory: pytest.TempPathFactory) -> Daemon:
    """Return an open daemon with minions of hostile names, that takes 1000 connections."""
    folder = config_dir(tmp_path_factory.mktemp("master"))
    for name in HOSTILE:
        (folder / "salt/pki/master/minions" / name).touch()
    daemon = start("--web.max-connections", "1000", config_dir=folder)
    assert eventually(daemon.is_ready)
    return daemon


def survived(daemon: Daemon) -> None:
    """Check that the daemon is as before: it answers, has not grown, and has nothing to tell of bugs."""
    assert daemon.get()[0] == 200
    assert psutil.Process(daemon.process.pid).memory_info().rss < MEMORY
    assert "Traceback" not in daemon.log()


def test_500_parallel_scrapes_are_all_answered(daemon: Daemon) -> None:
    """Five hundred scrapes at once share one run of the collectors: each gets its page, soon."""
    answers: list[int | None] = []
    go = threading.Barrier(50)

    def scrape(number: int) -> None:
        with ExitStack() as stack:
            source = f"127.0.1.{number % 5 + 1}"
            connections = [stack.enter_context(closing(connect(daemon, source))) for _ in range(10)]
            go.wait(PATIENCE)
            for connection in connections:
                connection.sendall(REQUEST)
            answers.extend(answer_on(connection, b"") for connection in connections)

    threads = [threading.Thread(target=scrape, args=(number,)) for number in range(50)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == [200] * 500
    assert time.monotonic() - began < 60
    survived(daemon)


def test_clients_that_say_nothing_or_little_are_outlived(daemon: Daemon) -> None:
    """Hundreds of connections that are silent, or drip a header, leave the scrapes alone and are gone after seconds."""
    with ExitStack() as stack:
        silent = [stack.enter_context(closing(connect(daemon, "127.0.1.6"))) for _ in range(200)]
        dripping = [stack.enter_context(closing(connect(daemon, "127.0.1.7"))) for _ in range(100)]
        for connection in dripping:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Drip: ")
        took = []
        for _ in range(10):
            began = time.monotonic()
            assert daemon.get()[0] == 200
            took.append(time.monotonic() - began)
            for connection in dripping:
                connection.sendall(b"x")
        assert statistics.median(took) < 3
        server = psutil.Process(daemon.process.pid)
        assert eventually(lambda: len(server.net_connections("tcp")) < 10, 10)
        assert all(connection.fileno() >= 0 for connection in silent)
    survived(daemon)


def test_huge_headers_are_not_kept(daemon: Daemon) -> None:
    """Fifty clients that send headers without end are cut, and their bytes fill no memory."""
    header = b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + b"X-Huge: " + b"x" * (1 << 20)
    for _ in range(50):
        with closing(connect(daemon, "127.0.1.8")) as connection:
            assert answer_on(connection, header) is None
    survived(daemon)


def test_hostile_minion_ids_stay_values(daemon: Daemon) -> None:
    """Whatever a minion is called, it is one label value of one series in both formats, and adds no line of its own."""
    with closing(http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=PATIENCE)) as connection:
        connection.request("GET", "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
        page = connection.getresponse().read().decode()

    assert set(daemon.metrics()) >= {f"salt_presence_minion_not_present {name}" for name in HOSTILE}
    series = [
        sample.labels["minion"]
        for family in parse_openmetrics(page)  # type: ignore[no-untyped-call] # prometheus_client has no types here
        for sample in family.samples
        if sample.name == "salt_presence_minion_not_present"
    ]
    assert sorted([*HOSTILE, "one"]) == sorted(series)
    assert not re.search(r"^(line|# HELP salt_fake)", page, re.MULTILINE)


def test_hostile_minion_ids_do_no_harm_in_a_browser_or_terminal(daemon: Daemon) -> None:
    """No page has a tag that is not ours, and no line of the log moves a cursor."""
    _status, page = daemon.get("/")

    assert set(re.findall(r"<(\w+)", page)) <= TAGS
    assert "\x1b" not in daemon.log()


def test_hostile_master_id_is_text(start: Callable[..., Daemon], tmp_path: Path) -> None:
    """What the master calls itself stands on the start page as text."""
    folder = config_dir(tmp_path)
    name = "<img src=x onerror=alert(1)>"
    (folder / "master").write_text((folder / "master").read_text().replace("id: here", f"id: '{name}'"))
    daemon = start(config_dir=folder)
    assert eventually(daemon.is_ready)

    _status, page = daemon.get("/")

    assert (name in page, html.escape(name) in page) == (False, True)
    assert f'id="{name}"' in daemon.get()[1]


class Protected:
    """A daemon with TLS, client certificates and a user, and what a good client of it needs."""

    def __init__(self, start: Callable[..., Daemon], folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder)
        self.authority.issue("server")
        self.client = self.context(self.authority.issue("client"))
        self.file = folder / "web.yml"
        self.password = "secret"  # noqa: S105 - of a test
        self.write()
        master = config_dir(folder / "master")
        self.daemon = start("--web.config.file", str(self.file), config_dir=master)
        assert eventually(lambda: self.get("/-/ready")[0] == 200)

    def write(self, more: str = "") -> None:
        """Write the web configuration with the password there is."""
        secret = bcrypt.hashpw(self.password.encode(), bcrypt.gensalt(10)).decode()
        self.file.write_text(f"""
tls_server_config:
  cert_file: server.pem
  key_file: server.key
  client_ca_file: ca.pem
  client_auth_type: RequireAndVerifyClientCert
basic_auth_users:
  prometheus: {secret}
{more}
""")

    def context(self, certificate: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        """Return a client's context."""
        context = ssl.create_default_context(cafile=str(self.authority.file))
        if certificate:
            context.load_cert_chain(*certificate)
        return context

    def get(
        self, path: str = "/metrics", password: str | None = None, context: ssl.SSLContext | None = None
    ) -> tuple[int, str]:
        """Return status and body of a page; raises OSError where TLS fails."""
        context = context or self.client
        with closing(
            http.client.HTTPSConnection("127.0.0.1", self.daemon.port, timeout=PATIENCE, context=context)
        ) as ask:
            given = base64.b64encode(f"prometheus:{password or self.password}".encode()).decode()
            ask.request("GET", path, headers={"Authorization": f"Basic {given}"})
            answer = ask.getresponse()
            return answer.status, answer.read().decode()

    def reloaded(self) -> bool:
        """Tell whether the newest web configuration is in force, as the metric has it."""
        return "\nsalt_exporter_web_config_reload_successful 1.0\n" in self.get()[1]


@pytest.fixture(scope="module")
def protected(start: Callable[..., Daemon], tmp_path_factory: pytest.TempPathFactory) -> Protected:
    """Return a daemon that lets in who has a certificate and a password."""
    return Protected(start, tmp_path_factory.mktemp("protected"))


def test_only_certificate_and_password_together_get_in(protected: Protected, tmp_path: Path) -> None:
    """A password without a certificate, with an expired or unknown one, or a wrong password do not get the metrics."""
    assert protected.get()[0] == 200
    assert protected.get(password="wrong")[0] == 401  # noqa: S106 - that is the point
    bad = {
        "none": protected.context(),
        "expired": protected.context(protected.authority.issue("expired", days=-1)),
        "unknown": protected.context(Authority(tmp_path).issue("stranger")),
    }
    for context in bad.values():
        with pytest.raises((OSError, http.client.HTTPException)):
            protected.get(context=context)
    assert "Traceback" not in protected.daemon.log()


def test_tls_connects_that_never_speak_are_outlived(protected: Protected) -> None:
    """A wave of connections without a handshake, more than one address may hold, keeps nobody else out."""
    with ExitStack() as stack:
        for _ in range(80):
            stack.enter_context(closing(connect(protected.daemon, "127.0.1.9")))
        assert protected.get()[0] == 200
        server = psutil.Process(protected.daemon.process.pid)
        assert eventually(lambda: len(server.net_connections("tcp")) < 10, 10)
    assert protected.get()[0] == 200


def test_flood_of_wrong_passwords_starves_no_scrape(protected: Protected) -> None:
    """While ten clients with good certificates try passwords without a pause, scrapes with the right one stay quick."""
    protected.get()
    end = time.monotonic() + 4
    tried: list[int] = []

    def try_passwords(number: int) -> None:
        while time.monotonic() < end:
            tried.append(protected.get(password=f"wrong{number}")[0])

    threads = [threading.Thread(target=try_passwords, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    took = []
    while time.monotonic() < end:
        began = time.monotonic()
        assert protected.get()[0] == 200
        took.append(time.monotonic() - began)
    for thread in threads:
        thread.join()

    assert {401} == set(tried)
    assert len(tried) > 10
    assert statistics.median(took) < 3


def test_new_password_and_certificate_are_taken_while_running(protected: Protected) -> None:
    """A changed file and a renewed certificate take effect without a restart; a bad file changes only the metric."""
    pid = protected.daemon.process.pid
    protected.password = "other"  # noqa: S105 - of a test
    protected.write()
    assert eventually(lambda: protected.get()[0] == 200)
    assert protected.get(password="secret")[0] == 401  # noqa: S106 - that was

    protected.write("oops: 1")
    assert eventually(lambda: not protected.reloaded())
    assert protected.get()[0] == 200

    before = served_certificate(protected)
    protected.authority.issue("server")
    protected.write()
    protected.daemon.kill(signal.SIGHUP)
    assert eventually(protected.reloaded)
    assert eventually(lambda: served_certificate(protected) != before)
    assert (pid, protected.daemon.ended) == (protected.daemon.process.pid, False)


def served_certificate(protected: Protected) -> bytes | None:
    """Return the certificate that the daemon shows."""
    with (
        closing(connect(protected.daemon)) as plain,
        protected.client.wrap_socket(plain, server_hostname="localhost") as ask,
    ):
        return ask.getpeercert(binary_form=True)


@pytest.fixture
def refused(tmp_path: Path) -> Iterator[Callable[[str], Daemon]]:
    """Return a starter of a daemon with a bad web configuration."""
    daemons: list[Daemon] = []

    def begin(content: str) -> Daemon:
        file = tmp_path / "web.yml"
        file.write_text(content)
        master = config_dir(tmp_path / "master")
        daemons.append(Daemon(tmp_path / "own", "--web.config.file", str(file), config_dir=master))
        return daemons[-1]

    yield begin
    for daemon in daemons:
        daemon.process.kill()
        daemon.process.wait()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("tls_sever_config: {}", "tls_sever_config is unknown here"),
        ("tls_server_config: {cert_file: none.pem, key_file: none.key}", "No such file"),
    ],
)
def test_no_start_with_a_bad_web_configuration(content: str, says: str, refused: Callable[[str], Daemon]) -> None:
    """Rather than open to all, the daemon does not start at all: status 2 and one sentence."""
    daemon = refused(content)

    assert daemon.process.wait(START) == 2
    (sentence,) = daemon.complaints()
    assert says in sentence
    assert "web.yml" in sentence
