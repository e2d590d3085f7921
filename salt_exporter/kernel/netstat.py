"""The kernel's TCP counters of this network namespace, from /proc/net/netstat (net/ipv4/proc.c)."""

from __future__ import annotations

from pathlib import Path

from salt_exporter.errors import SourceError

NETSTAT = Path("/proc/net/netstat")


def parse(text: str) -> dict[str, int]:
    """Return the `TcpExt:` counters by name from the text of /proc/net/netstat.

    The file pairs a line of names with a line of numbers. Raises ValueError if there is no such pair.
    """
    rows = [line.split()[1:] for line in text.splitlines() if line.startswith("TcpExt:")]
    if len(rows) != 2 or len(rows[0]) != len(rows[1]):
        raise ValueError("no pair of TcpExt: lines")
    return {name: int(value) for name, value in zip(*rows, strict=True)}


def tcp_ext(path: Path = NETSTAT) -> dict[str, int]:
    """Return the kernel's TcpExt counters. Raises SourceError."""
    try:
        return parse(path.read_text())
    except (OSError, ValueError) as error:
        raise SourceError(f"cannot read TCP counters from {path} ({error}): /proc must be mounted") from error
