"""Everything that reads bytes of others: how each is fed, what it may raise, and bytes it is known to meet.

A target returns or raises `Refused`, whatever it is given. Any other exception is a defect, and so is an answer that
breaks what the reader promises.
"""

from __future__ import annotations

import socket
import tempfile
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgpack

from salt_exporter.config import ConfigError, load
from salt_exporter.errors import SourceError
from salt_exporter.journal.store import _unpacked
from salt_exporter.kernel import netstat
from salt_exporter.kernel.inet_diag import Connection, Dump
from salt_exporter.kernel.netlink import DiagError
from salt_exporter.kernel.unix_diag import UnixDump
from salt_exporter.master import addresses, events, jobcache, titles, wire
from salt_exporter.web_config import file as web_config
from tests.unit.tools import recorded_chunks

if TYPE_CHECKING:
    from collections.abc import Callable

DATA: Final = Path(__file__).parents[1] / "data"
CORPUS: Final = DATA / "fuzz"
_LINES: Final = ("3006", "3007", "3008")
_STREAM: Final = 6000  # bytes of a recording that are one seed


class Refused(Exception):  # noqa: N818 - it is no error that bytes of others are refused
    """The reader has raised the error that it says it raises."""


@dataclass(frozen=True)
class Target:
    """`read` takes any bytes; `seeds` gives some that it meets in earnest, besides those in tests/data/fuzz/<name>."""

    name: str
    read: Callable[[bytes], object]
    recorded: Callable[[], list[bytes]]

    def seeds(self) -> list[bytes]:
        """Return recorded bytes and what fuzzing has found, the latter sorted by name."""
        return self.recorded() + [file.read_bytes() for file in self.corpus()]

    def corpus(self) -> list[Path]:
        """Return the files that fuzzing has found."""
        return sorted((CORPUS / self.name).glob("*"))


# --- the event bus ---


def _read_wire(data: bytes) -> None:
    """Feed a stream, in pieces whose size its first byte tells."""
    size = 1 + (data[0] if data else 0) * 8
    framer = wire.Framer()
    bodies = [body for at in range(1, len(data), size) for body in framer.feed(data[at : at + size])]
    assert sum(map(len, bodies)) <= len(data)
    # No more is held back than has come, and no more is waited for than an event may have.
    assert framer._size <= len(data)
    assert framer._needed <= wire.MAX_FRAME + wire.MAX_HEAD + 100


def _read_event(data: bytes) -> None:
    try:
        event = events.decode(data)
    except events.EventError as error:
        raise Refused from error
    assert event.kind in events.KINDS
    assert event.minion is None or 0 < len(event.minion) <= events.MAX_ID


def _streams() -> list[bytes]:
    recordings = [(DATA / f"bus-{line}.bin").read_bytes() for line in _LINES]
    pieces = [data[at : at + _STREAM] for data in recordings for at in range(0, len(data), _STREAM)]
    return [bytes([size]) + piece for piece, size in zip(pieces, [0, 3, 60, 255] * len(pieces), strict=False)]


def _bodies() -> list[bytes]:
    return [
        body
        for line in _LINES
        for body in wire.Framer().feed((DATA / f"bus-{line}.bin").read_bytes())
    ]  # fmt: skip


# --- the kernel ---


def _read_inet(family: int, data: bytes) -> None:
    dump = Dump(family)
    try:
        dump.feed(data)
    except DiagError as error:
        raise Refused from error
    for row in dump.connections:
        assert len(Connection._make(row).peer) == (4 if family == socket.AF_INET else 16)


def _read_unix(data: bytes) -> None:
    dump = UnixDump()
    try:
        dump.feed(data)
    except DiagError as error:
        raise Refused from error


def _read_netstat(data: bytes) -> None:
    try:
        netstat.parse(data.decode("utf-8", "replace"))
    except ValueError as error:
        raise Refused from error


def _read_title(data: bytes) -> None:
    """Read the command line of any process of the machine."""
    words = data.decode("utf-8", "surrogateescape").split("\0")
    assert titles.role_of(words) in titles.ROLES
    titles.name_of(words)


def _titles() -> list[bytes]:
    master = "/opt/salt/bin/python3 /usr/bin/salt-master --config-dir=/etc/salt"
    names = ("MainProcess", "EventPublisher", "MWorkerQueue", "MWorker-default-12", "Engine(salt.loaded.int.engines.x)")
    last = "ReqServer_ProcessManager ProcessFunc(state.orchestrate, fun=x)-1:2"
    return [f"{master} {name}".replace(" ", "\0").encode() for name in (*names, last)] + [b"", b"python3\0-m\0http"]


# --- the master's files ---


def _read_grains(layout: addresses.Layout, data: bytes) -> None:
    try:
        found = addresses.parse(data, layout)
    except ValueError as error:
        raise Refused from error
    assert {len(address) for address in found} <= {4, 16}


def _read_minions(data: bytes) -> None:
    try:
        found = jobcache._ids(data)
    except SourceError as error:
        raise Refused from error
    assert all(isinstance(minion, str) for minion in found)


def _read_journalled(data: bytes) -> None:
    try:
        _unpacked(data)
    except (ValueError, zlib.error) as error:
        raise Refused from error


def _minion_lists() -> list[bytes]:
    return [msgpack.packb([f"web{number}" for number in range(count)]) for count in (0, 1, 20, 300)]


# --- configuration ---


def _read_config(data: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        try:
            load({"config.file": file.name}, {})
        except ConfigError as error:
            raise Refused from error


def _read_web_config(data: bytes) -> None:
    try:
        found = web_config.parse(data.decode("utf-8", "replace"), Path("/nowhere"))
    except ConfigError as error:
        raise Refused from error
    assert all(isinstance(value, str) for value in (*found.headers.values(), *found.users.values()))


_CONFIGS = (
    b"""\
log.level: debug
web:
  listen-address: ['[::1]:4507', ':9000']
jobs.deadlines: state.*=1h,cmd.*=10m
""",
    b"collector: {jobs: false}\nsampler.interval: 5\npresence.recent: 90m\n# no more\n",
    b'{"state.directory": "/x", "jobs": {"deadline": "60s", "max-functions": 10}}',
)
_WEB_CONFIGS = (
    b"""\
tls_server_config:
  cert_file: a.pem
  key_file: b.pem
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.pem
  min_version: TLS12
  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA]
""",
    b"""\
http_server_config:
  http2: true
  headers:
    X-Frame-Options: deny
basic_auth_users:
  prometheus: $2b$04$iFs3nB.W1XQNw52Fsd3HSuVIpJVid8MTc10./iBtZmXaCeVOccJcy
""",
)

TARGETS: Final = (
    Target("wire", _read_wire, _streams),
    Target("event", _read_event, _bodies),
    Target(
        "inet-diag-ipv4",
        partial(_read_inet, socket.AF_INET),
        lambda: recorded_chunks("inet-diag-ipv4") + recorded_chunks("inet-diag-many"),
    ),
    Target("inet-diag-ipv6", partial(_read_inet, socket.AF_INET6), lambda: recorded_chunks("inet-diag-ipv6")),
    Target("unix-diag", _read_unix, lambda: recorded_chunks("unix-diag")),
    Target(
        "netstat", _read_netstat, lambda: [b"TcpExt: ListenOverflows ListenDrops\nTcpExt: 1 2\nIpExt: A\nIpExt: 1\n"]
    ),
    Target("title", _read_title, _titles),
    Target(
        "grains-nested",
        partial(_read_grains, addresses.NESTED),
        lambda: [(DATA / f"grains-{line}.p").read_bytes() for line in _LINES[:2]],
    ),
    Target("grains-flat", partial(_read_grains, addresses.FLAT), lambda: [(DATA / "grains-3008.p").read_bytes()]),
    Target("minion-list", _read_minions, _minion_lists),
    Target("journalled-ids", _read_journalled, lambda: [zlib.compress(data) for data in _minion_lists()]),
    Target("config", _read_config, lambda: list(_CONFIGS)),
    Target("web-config", _read_web_config, lambda: list(_WEB_CONFIGS)),
)
BY_NAME: Final = {target.name: target for target in TARGETS}
