"""The kernel's TCP counters: read by name, whatever their order and number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from salt_exporter.errors import SourceError
from salt_exporter.kernel.netstat import parse, tcp_ext

if TYPE_CHECKING:
    from pathlib import Path

TEXT = """\
TcpExt: SyncookiesSent ListenOverflows ListenDrops TCPRcvQDrop
TcpExt: 0 17 23 18446744073709551615
IpExt: InNoRoutes InTruncatedPkts
IpExt: 5 6
MPTcpExt: MPCapableSYNRX
MPTcpExt: 7
"""


def test_counters_have_their_names() -> None:
    """Names and numbers stand in two lines; other groups of counters are others."""
    expected = {"SyncookiesSent": 0, "ListenOverflows": 17, "ListenDrops": 23, "TCPRcvQDrop": 2**64 - 1}

    assert expected == parse(TEXT)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "IpExt: InNoRoutes\nIpExt: 5\n",
        "TcpExt: SyncookiesSent ListenDrops\n",
        "TcpExt: SyncookiesSent ListenDrops\nTcpExt: 0\n",
        "TcpExt: SyncookiesSent\nTcpExt: many\n",
        TEXT + TEXT,
    ],
)
def test_other_text_is_refused(text: str, tmp_path: Path) -> None:
    """Names without numbers give no counters, but an error."""
    (tmp_path / "netstat").write_text(text)

    with pytest.raises(ValueError, match=r"no pair of TcpExt: lines|invalid literal for int"):
        parse(text)
    with pytest.raises(SourceError, match=r"cannot read TCP counters from .*/netstat .*: /proc must be mounted"):
        tcp_ext(tmp_path / "netstat")


def test_missing_file_is_told(tmp_path: Path) -> None:
    """Without /proc the sentence says what must be there."""
    with pytest.raises(SourceError, match=r"cannot read TCP counters from .*/none .*: /proc must be mounted"):
        tcp_ext(tmp_path / "none")


def test_this_kernel_has_the_counters_that_are_exported() -> None:
    """The real file is read, and holds what the collector asks for."""
    counters = tcp_ext()

    assert {"ListenOverflows", "ListenDrops"} <= counters.keys()
    assert all(value >= 0 for value in counters.values())
