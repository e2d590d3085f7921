"""The master's own job cache, the truth about who has returned (salt/returners/local_cache.py)."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from salt_exporter.demo.lab import Lab


def in_cache(lab: Lab, jid: str) -> Path:
    """Return the directory of a job in the job cache."""
    digest = sha256(jid.encode()).hexdigest()
    return lab.folder / "cache" / "jobs" / digest[:2] / digest[2:]


def have_returned(lab: Lab, jid: str, minions: Iterable[str]) -> bool:
    """Return whether the returns of all these minions are in the job cache."""
    return all((in_cache(lab, jid) / minion / "return.p").exists() for minion in minions)
