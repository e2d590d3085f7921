"""Numbers and times as people read them."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Final

_UNITS: Final = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def ago(seconds: float) -> str:
    """Say how long ago something was; the future, as clocks that differ make it, is now."""
    for length, unit in _UNITS:
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return "now"


def instant(seconds: float | None) -> str:
    """Write Unix seconds as the clock on the wall here shows them, "" for none and for what is no time."""
    found = _local(seconds)
    return found.strftime("%Y-%m-%d %H:%M:%S") if found else ""


def machine_instant(seconds: float | None) -> str:
    """Write Unix seconds for the attribute of a `time` element, "" for none and for what is no time."""
    found = _local(seconds)
    return found.isoformat(timespec="seconds") if found else ""


def _local(seconds: float | None) -> datetime | None:
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).astimezone()
    except (OverflowError, ValueError, OSError):  # the time of an event may be anything
        return None


def size(number: float) -> str:
    """Write a number of bytes."""
    for unit in ("bytes", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


def several(number: float, what: str) -> str:
    """Write a number of things whose plural has an s."""
    return f"{number:,.0f} {what}" + ("" if number == 1 else "s")
