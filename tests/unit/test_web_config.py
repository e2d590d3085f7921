"""The web configuration file: what it may say, what it may not, and how the one in force follows it."""

from __future__ import annotations

import logging
import re
import shutil
import ssl
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from salt_exporter.config import ConfigError
from salt_exporter.web_config import live
from salt_exporter.web_config.file import WebConfig, parse, read
from salt_exporter.web_config.live import LiveWebConfig, activate
from salt_exporter.web_config.tls import CIPHERS, CURVES, admits, context_of
from tests.unit.certificates import Authority
from tests.unit.tools import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from salt_exporter.web_config.live import Active

HASH = "$2b$04$jUrSvTpUUUuBw4s4Kao/KuDceaYaViaXgW2qTDPZrVMSXMQpZugRK"  # of "secret"
FOLDER = Path("/etc/exporter")
CERT = "cert_file: a.pem, key_file: a.key"
WITH_CA = f"{CERT}, client_ca_file: ca.pem, client_auth_type: RequireAndVerifyClientCert"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return an authority with a server certificate `server` beside its own."""
    authority = Authority(tmp_path_factory.mktemp("ca"))
    authority.issue("server")
    return authority


def tls(text: str) -> str:
    """Return a file with this TLS section."""
    return f"tls_server_config: {{{text}}}"


def refusal(text: str) -> str:
    """Return why a text is refused."""
    with pytest.raises(ConfigError) as error:
        parse(text, FOLDER)
    return str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing\n",
        "tls_server_config:\n",
        "tls_server_config: {}\nbasic_auth_users: {}",
        "http_server_config: {}",
    ],
)
def test_empty_file_asks_for_nothing(text: str) -> None:
    """Without a section, or with empty ones, there is no TLS, no user and no header."""
    assert WebConfig() == parse(text, FOLDER)


def test_whole_file_is_understood() -> None:
    """All that Python can do of the format, in one file; relative paths start at the folder of the file."""
    found = parse(
        f"""
tls_server_config:
  cert_file: a.pem
  key_file: /keys/a.key
  client_ca_file: sub/ca.pem
  client_auth_type: RequireAndVerifyClientCert
  client_allowed_sans: [prometheus.example.org, 10.0.0.1]
  min_version: TLS12
  max_version: TLS13
  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]
  prefer_server_cipher_suites: false
  curve_preferences: [CurveP384]
http_server_config:
  http2: true
  headers: {{X-Frame-Options: deny, Strict-Transport-Security: max-age=31536000, Content-Security-Policy: ''}}
basic_auth_users:
  prometheus: {HASH}
""",
        FOLDER,
    )

    assert found.tls
    assert found.tls.files == (FOLDER / "a.pem", Path("/keys/a.key"), FOLDER / "sub/ca.pem")
    assert found.tls.client_allowed_sans == ("prometheus.example.org", "10.0.0.1")
    assert (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3) == (found.tls.min_version, found.tls.max_version)
    assert found.tls.cipher_suites == ("ECDHE-RSA-AES256-GCM-SHA384",)
    assert (found.tls.curve_preferences, found.tls.prefer_server_cipher_suites) == (("secp384r1",), False)
    assert (found.headers["X-Frame-Options"], found.headers["Content-Security-Policy"]) == ("deny", "")
    assert found.users == {"prometheus": HASH}


DOCS = Path(__file__).parents[2] / "docs/operating.md"


def documented(authority: Authority, folder: Path) -> Path:
    """Write the example of the documentation, with certificates of the names it has, below a folder."""
    (example,) = re.findall(r"^```yaml\n(tls_server_config:.*?)^```", DOCS.read_text(), re.DOTALL | re.MULTILINE)
    shutil.copy(authority.file, folder / "prometheus-ca.pem")
    for name in ("server.pem", "server.key"):
        shutil.copy(authority.folder / name, folder)
    file = folder / "web.yml"
    file.write_text(example)
    return file


def test_documented_file_is_good(authority: Authority, tmp_path: Path) -> None:
    """The example in docs/operating.md can be served with as it stands."""
    found = read(documented(authority, tmp_path))

    assert activate(found).allowed_sans == frozenset(("prometheus.example.org",))
    assert list(found.users) == ["prometheus"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_documented_file_is_good_to_prometheus_too(authority: Authority, tmp_path: Path) -> None:
    """The format is the exporter-toolkit's: Prometheus' own program takes the same file."""
    file = documented(authority, tmp_path)
    newer = "  client_allowed_sans: [prometheus.example.org]\n"  # than Debian 12's promtool
    assert newer in file.read_text()
    file.write_text(file.read_text().replace(newer, ""))

    done = subprocess.run(["promtool", "check", "web-config", file], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tls_server_conf: {}", "tls_server_conf is unknown here; there are tls_server_config, http"),
        ("rate_limit: {burst: 1}", "rate_limit is unknown here"),
        (tls(f"{CERT}, cert_fiel: x"), "tls_server_config.cert_fiel is unknown here; there are cert, cert_file"),
        ("http_server_config: {http3: true}", "http_server_config.http3 is unknown here"),
        ("http_server_config: {headers: {Server: x}}", "http_server_config.headers.Server is unknown here"),
        ("1: 2", "1 is unknown here"),
        ("just words", "the file must hold keys and values"),
        ("tls_server_config: []", "tls_server_config must hold keys and values"),
        ("basic_auth_users: [a]", "basic_auth_users must hold keys and values"),
        ("a: [", "no YAML: "),
        ("basic_auth_users: 2026-99-99", "no YAML: "),
        ("[" * 5000, "no YAML: "),
        ("? [a]\n: b", "no YAML: "),
        ("basic_auth_users: {}\nbasic_auth_users: {}", "'basic_auth_users' stands twice"),
        (f"basic_auth_users: {{a: '{HASH}', a: '{HASH}'}}", "'a' stands twice"),
    ],
)
def test_what_is_unknown_or_no_yaml_is_refused_with_its_place(text: str, says: str) -> None:
    """A misspelt key, a key of another program, or one that stands twice would leave the exporter open: no start."""
    assert says in refusal(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("min_version: TLS12", "tls_server_config: expected one of cert and cert_file, there are 0"),
        ("cert_file: a.pem", "tls_server_config: expected one of key and key_file, there are 0"),
        (f"{CERT}, cert: x", "tls_server_config: expected one of cert and cert_file, there are 2"),
        ("cert_file: , key_file: a", "tls_server_config.cert_file: expected a text"),
        ("cert_file: '', key_file: a", "tls_server_config.cert_file: expected a text"),
        ("cert_file: 1, key_file: a", "tls_server_config.cert_file: expected a text"),
        (f"{CERT}, min_version: TLS10", "tls_server_config.min_version: 'TLS10' is none of TLS12, TLS13"),
        (f"{CERT}, max_version: [TLS12]", "tls_server_config.max_version: ['TLS12'] is none of TLS12, TLS13"),
        (f"{CERT}, min_version: TLS13, max_version: TLS12", "max_version is before min_version"),
        (f"{CERT}, cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]", "'TLS_RSA_WITH_RC4_128_SHA' is none of TLS_ECDHE"),
        (f"{CERT}, cipher_suites: [TLS_AES_128_GCM_SHA256]", "'TLS_AES_128_GCM_SHA256' is none of TLS_ECDHE"),
        (f"{CERT}, cipher_suites: TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "cipher_suites: expected a list"),
        (f"{CERT}, curve_preferences: [X448]", "'X448' is none of CurveP256, CurveP384, CurveP521, X25519"),
        (f"{CERT}, prefer_server_cipher_suites: 1", "prefer_server_cipher_suites: expected true or false"),
        (f"{CERT}, client_auth_type: Yes", "client_auth_type: expected a text"),
        (f"{CERT}, client_auth_type: Require", "client_auth_type: 'Require' is none of NoClientCert, Verify"),
        (f"{CERT}, client_auth_type: RequireAnyClientCert", "Python verifies what it asks for"),
        (f"{CERT}, client_auth_type: RequestClientCert", "Python verifies what it asks for"),
        (f"{CERT}, client_ca_file: ca.pem", "client_auth_type NoClientCert with client_ca_file makes no sense"),
        (f"{CERT}, client_auth_type: VerifyClientCertIfGiven", "without client_ca_file makes no sense"),
        (f"{CERT}, client_allowed_sans: [a]", "client_allowed_sans takes client_auth_type RequireAndVerifyClientCert"),
        (f"{WITH_CA}, client_allowed_sans: a", "client_allowed_sans: expected a list"),
    ],
)
def test_tls_that_makes_no_sense_is_refused(text: str, says: str) -> None:
    """What contradicts itself, or what Python cannot do, is an error that names the key; nothing is passed over."""
    assert says in refusal(tls(text))


@pytest.mark.skipif(hasattr(ssl.SSLContext, "set_groups"), reason="this Python can use several")
def test_several_curves_are_refused_where_python_takes_one() -> None:
    """Python before 3.15 can only be given one curve: more are an error."""
    assert "one curve only" in refusal(tls(f"{CERT}, curve_preferences: [X25519, CurveP256]"))


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ("X-Frame-Options: maybe", "headers.X-Frame-Options: expected deny or sameorigin"),
        ("X-Content-Type-Options: sniff", "headers.X-Content-Type-Options: expected nosniff"),
        ("Strict-Transport-Security: 1", "headers.Strict-Transport-Security: expected printable ASCII"),
        ('X-XSS-Protection: "0\\r\\nX: y"', "headers.X-XSS-Protection: expected printable ASCII"),
    ],
)
def test_bad_header_is_refused(headers: str, says: str) -> None:
    """A header has a value that the format allows, and one that cannot end the line."""
    assert says in refusal(f"http_server_config: {{headers: {{{headers}}}}}")


@pytest.mark.parametrize(
    "secret", ["secret", "", "$2b$03$" + "a" * 53, "$2b$32$" + "a" * 53, HASH[:-1], HASH + "a", "$1$" + HASH]
)
def test_password_must_be_a_bcrypt_hash(secret: str) -> None:
    """What is no bcrypt hash is refused, and is not repeated: it may be the password itself."""
    said = refusal(f"basic_auth_users: {{alice: '{secret}'}}")

    assert said.startswith("basic_auth_users.alice: expected a bcrypt hash")
    assert not secret or secret not in said


@pytest.mark.parametrize("name", ["1", "''", "'a:b'", "null"])
def test_name_that_nobody_can_have_is_refused(name: str) -> None:
    """A name that is no text, or has a colon in it, could never log in: an error."""
    assert "can be no user's name" in refusal(f"basic_auth_users: {{{name}: '{HASH}'}}")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from(
    ["cert_file", "key_file", "client_ca_file", "client_auth_type", "headers", "http2", "cipher_suites"]
)


@given(
    st.dictionaries(
        st.sampled_from(["tls_server_config", "http_server_config", "basic_auth_users"]),
        VALUES | st.dictionaries(KEYS, VALUES),
    )
)
@settings(max_examples=300, deadline=None)
def test_any_file_is_taken_or_refused(content: object) -> None:
    """Whatever stands in the file ends in a configuration or in a ConfigError, never in another error."""
    try:
        parse(yaml.safe_dump(content), FOLDER)
    except ConfigError as error:
        assert str(error)  # noqa: PT017 - that there is an error is not the point


def test_errors_name_the_file(tmp_path: Path) -> None:
    """Which file cannot be read, or which file holds the mistake, stands in the message."""
    bad = tmp_path / "web.yml"
    bad.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=f"^cannot read {bad}: "):
        read(bad)
    with pytest.raises(ConfigError, match=r"^cannot read .*none\.yml: .*No such file"):
        read(tmp_path / "none.yml")
    bad.write_text("oops: 1")
    with pytest.raises(ConfigError, match=f"^{bad}: oops is unknown"):
        read(bad)


def test_context_does_as_the_file_says(authority: Authority) -> None:
    """Versions, suites and the check of client certificates are those of the file; renegotiation is off."""
    text = (
        "cert_file: server.pem, key_file: server.key, client_ca_file: ca.pem, min_version: TLS13,"
        "client_auth_type: VerifyClientCertIfGiven, prefer_server_cipher_suites: false,"
        "cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]"
    )
    found = parse(tls(text), authority.folder).tls
    assert found

    context = context_of(found)

    assert (context.minimum_version, context.verify_mode) == (ssl.TLSVersion.TLSv1_3, ssl.CERT_OPTIONAL)
    assert {"ECDHE-ECDSA-AES128-GCM-SHA256"} == {
        cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] != "TLSv1.3"
    }
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert not context.options & ssl.OP_CIPHER_SERVER_PREFERENCE


@pytest.mark.parametrize("cipher", CIPHERS)
def test_every_cipher_suite_is_known_to_openssl(cipher: str, authority: Authority) -> None:
    """Each name of Go's stands for one suite of OpenSSL's."""
    found = parse(tls(f"cert_file: server.pem, key_file: server.key, cipher_suites: [{cipher}]"), authority.folder).tls
    assert found

    chosen = [item["name"] for item in context_of(found).get_ciphers() if item["protocol"] != "TLSv1.3"]

    assert [CIPHERS[cipher]] == chosen


@pytest.mark.parametrize("curve", CURVES)
def test_every_curve_is_known_to_openssl(curve: str, authority: Authority) -> None:
    """Each of Go's curves can be the one of a context; where this Python cannot set it, that is a clear error."""
    found = parse(
        tls(f"cert_file: server.pem, key_file: server.key, curve_preferences: [{curve}]"), authority.folder
    ).tls
    assert found

    if _can_set(curve):
        assert context_of(found).verify_mode == ssl.CERT_NONE
    else:
        assert curve == "X25519"  # in Python 3.11.2, Debian 12's, it is no curve
        with pytest.raises(ConfigError, match="cannot use these suites or curves"):
            context_of(found)


def _can_set(curve: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ecdh_curve(CURVES[curve])
    except ssl.SSLError:
        return False
    return True


def test_certificates_may_stand_in_the_file_itself(authority: Authority) -> None:
    """Certificate, key and authority may be given as text instead of as files."""
    text = {
        "cert": (authority.folder / "server.pem").read_text(),
        "key": (authority.folder / "server.key").read_text(),
        "client_ca": authority.file.read_text(),
        "client_auth_type": "RequireAndVerifyClientCert",
    }
    found = parse(yaml.safe_dump({"tls_server_config": text}), FOLDER).tls
    assert found

    context = context_of(found)

    assert (context.verify_mode, len(context.get_ca_certs())) == (ssl.CERT_REQUIRED, 1)


def test_certificate_that_cannot_be_used_is_named(authority: Authority, tmp_path: Path) -> None:
    """Missing files, files of another kind, a key that does not fit or is encrypted: an error with the names."""
    cert, key = authority.issue("encrypted", password=b"secret")
    other = Authority(tmp_path).issue("other")[1]
    for text, says in (
        ("cert_file: none.pem, key_file: server.key", "none.pem"),
        ("cert_file: server.key, key_file: server.key", "server.key"),
        (f"cert_file: server.pem, key_file: {other}", "other.key: .*KEY_VALUES_MISMATCH"),
        (f"cert_file: {cert}, key_file: {key}", "the key is encrypted"),
        (
            (
                "cert_file: server.pem, key_file: server.key, client_ca_file: server.key,"
                "client_auth_type: RequireAndVerifyClientCert"
            ),
            "cannot use .*server.key",
        ),
    ):
        with pytest.raises(ConfigError, match=says):
            activate(parse(tls(text), authority.folder))


@pytest.mark.parametrize(
    ("allowed", "admitted"),
    [
        (None, True),
        ((), False),
        (("prometheus.example.org",), True),
        (("PROMETHEUS.example.org",), False),
        (("example.org",), False),
        (("10.0.0.1",), True),
        (("2001:db8::1",), True),
        (("a@example.org",), True),
        (("spiffe://example.org/prometheus",), True),
        (("prometheus",), False),
        (("other", "10.0.0.1"), True),
    ],
)
def test_allowed_names_are_matched_exactly(allowed: tuple[str, ...] | None, admitted: bool) -> None:  # noqa: FBT001 - expected
    """A client's DNS names, addresses, mail addresses and URIs count, its subject does not; one match is enough."""
    certificate = {
        "subject": ((("commonName", "prometheus"),),),
        "subjectAltName": (
            ("DNS", "prometheus.example.org"),
            ("IP Address", "10.0.0.1"),
            ("IP Address", "2001:DB8:0:0:0:0:0:1"),
            ("email", "a@example.org"),
            ("URI", "spiffe://example.org/prometheus"),
        ),
    }

    assert admitted is admits(None if allowed is None else frozenset(allowed), certificate)


@pytest.mark.parametrize("certificate", [None, {}, {"subjectAltName": ()}])
def test_certificate_without_names_is_not_admitted_where_names_count(certificate: dict[str, object] | None) -> None:
    """Who has no name is none of those allowed."""
    assert not admits(frozenset(("a",)), certificate)


class Followed:
    """A web configuration in force, on files that a test changes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "web.yml"
        self.reload = SimpleNamespace(successful=True, time=0.0)
        self.applied: list[Active] = []
        self.live: LiveWebConfig

    def start(self, text: str) -> None:
        """Read the file for the first time and follow it."""
        self.file.write_text(text)
        self.live = LiveWebConfig(self.file, self.reload)
        self.live.start(self.applied.append)

    def users(self) -> bool:
        """Tell whether users are asked for."""
        return bool(self.live.current.users)


@pytest.fixture
def followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Followed]:
    """Return one that looks at its files every 20 ms."""
    monkeypatch.setattr(live, "_LOOK_EVERY", 0.02)
    followed = Followed(tmp_path)
    yield followed
    followed.live.stop()


USERS = f"basic_auth_users: {{a: '{HASH}'}}"
SERVER_TLS = tls("cert_file: server.pem, key_file: server.key")


def test_change_of_the_file_takes_effect(followed: Followed) -> None:
    """A user who is added is asked for within moments; whoever serves is told, and the time of it is noted."""
    followed.start("")
    assert not followed.users()

    followed.file.write_text(USERS)

    wait_until(lambda: followed.reload.time)
    assert (followed.users(), followed.reload.successful) == (True, True)
    assert followed.applied == [followed.live.current]
    assert abs(time.time() - followed.reload.time) < 10


def test_bad_file_changes_nothing_but_the_metric(followed: Followed, caplog: pytest.LogCaptureFixture) -> None:
    """The last good one stays in force, one error says why, and the next good file ends it."""
    followed.start(USERS)
    first = followed.live.current

    followed.file.write_text("oops: 1")
    wait_until(lambda: not followed.reload.successful)
    time.sleep(0.2)
    assert (followed.live.current, followed.applied, followed.reload.time) == (first, [], 0.0)
    assert [record.getMessage() for record in caplog.records] == [
        (
            "web configuration not reloaded: "
            f"{followed.file}: oops is unknown here; there are tls_server_config, http_server_config, basic_auth_users"
        )
    ]

    followed.file.write_text(USERS + "\n")
    wait_until(lambda: followed.reload.successful)
    assert followed.live.current is not first


def test_renewed_certificate_takes_effect(followed: Followed) -> None:
    """A new pair of certificate and key under the same names is served; half of it is not, and harms nothing."""
    Authority(followed.folder).issue("server")
    followed.start(SERVER_TLS)
    first = followed.live.current.tls
    cert, key = Authority(followed.folder / "new").issue("server")

    shutil.copy(cert, followed.folder)
    wait_until(lambda: not followed.reload.successful)
    assert followed.live.current.tls is first
    shutil.copy(key, followed.folder)
    wait_until(lambda: followed.reload.successful)
    assert followed.live.current.tls is not first


def test_missing_certificate_is_noticed_when_it_comes(followed: Followed) -> None:
    """A file that names a certificate which is not there yet takes effect as soon as it is."""
    followed.start("")
    followed.file.write_text(SERVER_TLS)
    wait_until(lambda: not followed.reload.successful)

    Authority(followed.folder).issue("server")

    wait_until(lambda: followed.reload.successful)
    assert followed.live.current.tls


@pytest.mark.parametrize(
    ("before", "after", "gone"),
    [
        (USERS, "", "basic_auth_users"),
        (SERVER_TLS, "", "tls_server_config"),
        (f"{SERVER_TLS}\n{USERS}", SERVER_TLS, "basic_auth_users"),
        (f"{SERVER_TLS}\n{USERS}", USERS, "tls_server_config"),
    ],
)
def test_reload_takes_no_protection_away(
    before: str, after: str, gone: str, followed: Followed, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that was emptied, by a full disk or by mistake, does not open the exporter: that takes a restart."""
    Authority(followed.folder).issue("server")
    followed.start(before)
    first = followed.live.current

    followed.file.write_text(after)

    wait_until(lambda: not followed.reload.successful)
    assert followed.live.current is first
    assert f"{gone} is gone: to do without it takes a restart" in caplog.text


def test_file_is_read_when_it_has_settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is still being written is not read: only what two looks find the same."""
    monkeypatch.setattr(live, "_LOOK_EVERY", 0.6)
    followed = Followed(tmp_path)
    followed.start("")
    with followed.file.open("w") as file:
        for _ in range(25):
            file.write("# not yet\noops: 1\n")
            file.flush()
            time.sleep(0.05)
            assert followed.reload.successful
        file.seek(0)
        file.truncate()
        file.write(USERS)
    wait_until(lambda: followed.applied)
    followed.live.stop()
    assert followed.users()


def test_told_to_reload_it_does_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """SIGHUP does not wait for the next look."""
    followed = Followed(tmp_path)
    followed.start("")
    followed.file.write_text(USERS)

    with caplog.at_level(logging.INFO):
        followed.live.reload()

    assert (followed.users(), [record.getMessage() for record in caplog.records]) == (
        True,
        ["web configuration reloaded"],
    )
    followed.live.stop()


def test_without_a_file_there_is_nothing_to_follow() -> None:
    """No file means no TLS and no users, and a reload that does nothing."""
    reload = SimpleNamespace(successful=True, time=0.0)
    open_to_all = LiveWebConfig(None, reload)
    open_to_all.start(lambda _active: pytest.fail("nothing has changed"))

    open_to_all.reload()

    assert (open_to_all.current.tls, bool(open_to_all.current.users), reload.time) == (None, False, 0.0)


def test_first_file_must_be_good(tmp_path: Path) -> None:
    """At the start there is no last good one: a bad file, or a bad certificate, is an error that names the file."""
    file = tmp_path / "web.yml"
    for text in ("oops: 1", SERVER_TLS):
        file.write_text(text)
        with pytest.raises(ConfigError, match=f"^{file}: "):
            LiveWebConfig(file, SimpleNamespace(successful=True, time=0.0))
