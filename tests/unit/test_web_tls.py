"""TLS on real sockets: who gets through the handshake, who does not, and what those can cost."""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from salt_exporter.server import HEADER_TIMEOUT
from salt_exporter.web_config.file import parse
from salt_exporter.web_config.live import activate
from tests.unit.certificates import Authority
from tests.unit.tools import wait_until

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

    from salt_exporter.metric import Metric
    from tests.unit.conftest import MakeCollector, Serve, Site

SERVER = "cert_file: server.pem, key_file: server.key"
MUTUAL = f"{SERVER}, client_ca_file: ca.pem, client_auth_type: RequireAndVerifyClientCert"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return an authority with a server certificate beside its own."""
    authority = Authority(tmp_path_factory.mktemp("ca"))
    authority.issue("server")
    return authority


@pytest.fixture(scope="module")
def serve_tls(serve: Serve, authority: Authority, make_collector: MakeCollector, number: Metric) -> Callable[..., Site]:
    """Return a starter of sites with a TLS section."""

    def start(section: str, **settings: Any) -> Site:  # noqa: ANN401 - those of serve
        site = serve([make_collector("keys", lambda: [number(7)])], **settings)
        site.use(activate(parse(f"tls_server_config: {{{section}}}", authority.folder)))
        return site

    return start


@pytest.fixture(scope="module")
def plain_tls(serve_tls: Callable[..., Site]) -> Site:
    """Return a site with TLS for everybody."""
    return serve_tls(SERVER, max_connections=16)


@pytest.fixture(scope="module")
def mutual(serve_tls: Callable[..., Site]) -> Site:
    """Return a site for those with a certificate of the authority."""
    return serve_tls(MUTUAL)


def client(authority: Authority, certificate: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    """Return the context of a client that trusts the authority, with or without a certificate and key."""
    context = ssl.create_default_context(cafile=str(authority.file))
    if certificate:
        context.load_cert_chain(*certificate)
    return context


def status(site: Site, context: ssl.SSLContext | None, source: str = "127.0.0.1") -> int | None:
    """Return the status of a scrape, without TLS if there is no context; None if there is no answer."""
    with ExitStack() as stack:
        connection: socket.socket = stack.enter_context(site.connect(source))
        try:
            if context:
                connection = stack.enter_context(context.wrap_socket(connection, server_hostname="localhost"))
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            answer.read()
        except (OSError, http.client.HTTPException):
            return None
        return answer.status


def test_scrape_over_tls(plain_tls: Site, authority: Authority) -> None:
    """With a certificate that its client trusts, the exporter is scraped as without TLS."""
    assert status(plain_tls, client(authority)) == 200


def test_without_tls_there_is_no_answer(plain_tls: Site) -> None:
    """Where TLS is configured, plain HTTP gets nothing."""
    assert status(plain_tls, None) is None


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_versions_are_refused(version: str, plain_tls: Site, authority: Authority) -> None:
    """A client that speaks nothing newer than TLS 1.1 is not served."""
    context = client(authority)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]

    assert status(plain_tls, context) is None


@pytest.mark.parametrize(("version", "answer"), [("TLSv1_2", None), ("TLSv1_3", 200)])
def test_least_version_is_heeded(
    version: str, answer: int | None, serve_tls: Callable[..., Site], authority: Authority
) -> None:
    """With min_version TLS13 a client of TLS 1.2 is refused."""
    context = client(authority)
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]

    assert answer == status(serve_tls(f"{SERVER}, min_version: TLS13"), context)


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_client_certificates(version: str, mutual: Site, authority: Authority, tmp_path: Path) -> None:
    """Only a valid certificate of the configured authority gets an answer, in either version of TLS."""
    stranger = Authority(tmp_path)  # of the same name, with another key
    clients = {
        "good": client(authority, authority.issue("good")),
        "none": client(authority),
        "expired": client(authority, authority.issue("expired", days=-1)),
        "not yet valid": client(authority, authority.issue("early", days=30)),
        "unknown authority": client(authority, stranger.issue("stranger")),
    }
    for context in clients.values():
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version]

    answers = {name: status(mutual, context) for name, context in clients.items()}

    assert answers == {"good": 200, "none": None, "expired": None, "not yet valid": None, "unknown authority": None}


def test_intermediate_authority_is_trusted_without_its_root(
    serve_tls: Callable[..., Site], authority: Authority, tmp_path: Path
) -> None:
    """What is in client_ca_file is trusted itself, as in Go: those of a department, and not all of the company."""
    root = Authority(tmp_path / "root", "Root CA")
    department = Authority(tmp_path / "department", "Department CA", root)
    site = serve_tls(f"{SERVER}, client_ca_file: {department.file}, client_auth_type: RequireAndVerifyClientCert")

    assert status(site, client(authority, department.issue("ours"))) == 200
    assert status(site, client(authority, root.issue("theirs"))) is None


def test_given_certificate_is_verified(serve_tls: Callable[..., Site], authority: Authority, tmp_path: Path) -> None:
    """With VerifyClientCertIfGiven no certificate is fine, a bad one is not."""
    site = serve_tls(f"{SERVER}, client_ca_file: ca.pem, client_auth_type: VerifyClientCertIfGiven")

    assert status(site, client(authority)) == 200
    assert status(site, client(authority, authority.issue("known"))) == 200
    assert status(site, client(authority, Authority(tmp_path).issue("stranger"))) is None


def test_only_allowed_names_get_through(serve_tls: Callable[..., Site], authority: Authority) -> None:
    """With client_allowed_sans a good certificate of somebody else does not get a word, not even a refusal."""
    site = serve_tls(f"{MUTUAL}, client_allowed_sans: [prometheus.example.org]")

    allowed = authority.issue("allowed", x509.DNSName("other"), x509.DNSName("prometheus.example.org"))
    assert status(site, client(authority, allowed)) == 200
    other = authority.issue("other", x509.DNSName("grafana.example.org"))
    assert status(site, client(authority, other)) is None
    with (
        site.connect() as plain,
        client(authority, other).wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        try:
            connection.sendall(b"POST /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(100) == b""
        except OSError:
            pass  # cut even sooner


def cut_after(connection: socket.socket, drip: bytes) -> float:
    """Keep sending; return after how many seconds the server closed the connection, 9 at most."""
    connection.settimeout(0.2)
    began = time.monotonic()
    try:
        while time.monotonic() - began < 9:
            try:
                if not connection.recv(4096):
                    break
            except TimeoutError:
                connection.sendall(drip)
    except OSError:
        pass
    return time.monotonic() - began


HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"  # the beginning of one that has 512 bytes


def test_clients_that_never_speak_tls_hold_no_places(plain_tls: Site, authority: Authority) -> None:
    """Who connects and says nothing, or drips half a handshake, is cut after 3 s, and others get the places."""
    ended: dict[str, float] = {}

    def attack(name: str, first: bytes, drip: bytes) -> None:
        with plain_tls.connect("127.0.0.2") as connection:
            connection.sendall(first)
            ended[name] = cut_after(connection, drip)

    def attack_after_the_handshake() -> None:
        context = client(authority)
        with (
            plain_tls.connect("127.0.0.2") as plain,
            context.wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            ended["drip after"] = cut_after(connection, b"G")

    threads = [
        threading.Thread(target=attack, args=("silence", b"", b"")),
        threading.Thread(target=attack, args=("half a hello", HELLO, b"")),
        threading.Thread(target=attack, args=("dripped hello", HELLO, b"x")),
        threading.Thread(target=attack_after_the_handshake),
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    assert status(plain_tls, client(authority), "127.0.0.3") == 200
    for thread in threads:
        thread.join()

    assert all(HEADER_TIMEOUT - 0.5 < seconds < 8 for seconds in ended.values()), ended
    assert len(ended) == 4
    wait_until(lambda: plain_tls.server._peers.total() == 0)  # the server learns of an end after the client


def test_silent_connections_are_bounded_and_make_room(plain_tls: Site, authority: Authority) -> None:
    """Connections without a handshake count, so that one address cannot hold all; when cut, their places are free."""
    with ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(plain_tls.connect("127.0.0.2"))
        assert status(plain_tls, client(authority), "127.0.0.2") is None
        assert status(plain_tls, client(authority), "127.0.0.3") == 200
        time.sleep(HEADER_TIMEOUT + 1)
        assert status(plain_tls, client(authority), "127.0.0.2") == 200


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + bytes(600), b"\x80" * 5000, HELLO + bytes(506)]
)
def test_what_is_no_handshake_is_cut_at_once(
    data: bytes, plain_tls: Site, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """Garbage instead of a handshake ends the connection at once, without a line in the log."""
    with plain_tls.connect() as connection:
        connection.sendall(data)
        assert cut_after(connection, b"") < HEADER_TIMEOUT - 0.5

    assert status(plain_tls, client(authority)) == 200
    assert caplog.records == []


def test_renewed_certificate_is_served_to_new_connections(
    serve_tls: Callable[..., Site], authority: Authority, tmp_path: Path
) -> None:
    """After a reload new connections get the new certificate; one that is open goes on."""
    site = serve_tls(SERVER)
    renewed = Authority(tmp_path)
    renewed.issue("server")
    with site.connect() as plain, client(authority).wrap_socket(plain, server_hostname="localhost") as connection:
        site.use(activate(parse(f"tls_server_config: {{{SERVER}}}", tmp_path)))

        assert (status(site, client(authority)), status(site, client(renewed))) == (None, 200)
        connection.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
