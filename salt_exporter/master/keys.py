"""Minion keys, read from the master's pki_dir.

One file per minion in `minions` (accepted), `minions_pre` (pending), `minions_rejected`, `minions_denied`: the layout
of 3006 and 3007, and of 3008's default `keys.cache_driver: localfs_key` (salt/cache/localfs_key.py, BASE_MAPPING).
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from salt_exporter.errors import SourceError

if TYPE_CHECKING:
    from pathlib import Path

DIRECTORIES: Final = {
    "accepted": "minions",
    "pending": "minions_pre",
    "rejected": "minions_rejected",
    "denied": "minions_denied",
}


@dataclass(frozen=True, slots=True)
class Keys:
    """Minion ids by the state of their key."""

    accepted: frozenset[str]
    pending: frozenset[str]
    rejected: frozenset[str]
    denied: frozenset[str]


class KeyStore:
    """Lists the keys below a pki_dir, reading only directories that have changed since the last time."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[int, frozenset[str]]] = {}

    def read(self, pki_dir: Path) -> Keys:
        """Return all keys. Raises SourceError if the accepted ones cannot be listed."""
        found = {state: self._ids(pki_dir / name) for state, name in DIRECTORIES.items()}
        return Keys(**found)

    def _ids(self, directory: Path) -> frozenset[str]:
        """Return the ids in a directory; dotfiles are Salt's own (`.key_cache`) or an editor's.

        Every way to add, remove or rename a file changes the directory's mtime. One that lies less than a tick of
        the file system's clock back could change again unseen, so a fresh one is read again.
        """
        try:
            changed = directory.stat().st_mtime_ns
            known = self._known.get(directory)
            if known and known[0] == changed:
                return known[1]
            ids = frozenset(name for name in os.listdir(directory) if not name.startswith("."))  # noqa: PTH208 - 5x faster
        except FileNotFoundError:
            if directory.name == DIRECTORIES["accepted"]:
                raise SourceError(
                    f"{directory} does not exist: is this the master's pki_dir (--salt.config-dir)?"
                ) from None
            return frozenset()
        except OSError as error:
            raise SourceError(
                f"cannot list the minion keys in {directory} ({error.strerror}): "
                "run the exporter as the user the salt-master runs as"
            ) from error
        if _settled(changed):
            self._known[directory] = changed, ids
        else:
            self._known.pop(directory, None)
        return ids


def syndics(cachedir: Path) -> frozenset[str]:
    """Return the ids of the syndics below this master: jobs name them and they never return (3006 to 3008)."""
    try:
        return frozenset(os.listdir(cachedir / "syndics"))  # noqa: PTH208 - 5x faster
    except OSError:  # most masters have none, and what cannot be listed makes nothing wrong but an expectation
        return frozenset()


def _settled(mtime_ns: int) -> bool:
    """Tell whether a file changed so long ago that a later change must show another mtime (ticks are 4 to 10 ms)."""
    return abs(time.time_ns() - mtime_ns) > 1_000_000_000
