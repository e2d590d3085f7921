"""The loss journal: what the exporter must still know after a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from salt_exporter.journal.journal import Journal
from salt_exporter.journal.notes import InFlight, Loss, plain
from salt_exporter.journal.store import FILE, Reader

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

__all__ = ["InFlight", "Journal", "Loss", "Reader", "plain", "reader"]


def reader(folder: Path) -> AbstractContextManager[Reader]:
    """Open the journal in a state directory, which a daemon may be writing to. Raises SourceError if there is none."""
    return Reader.of(folder / FILE)
