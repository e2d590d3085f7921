"""`salt-exporter losses`: the daemon's loss journal, each missing response with its cause and the evidence."""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from salt_exporter.analysis.causes import CAUSES
from salt_exporter.errors import SourceError
from salt_exporter.journal import plain, reader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from salt_exporter.config import Config
    from salt_exporter.journal import Loss

_HEADINGS = ("TIME", "MINION", "FUNCTION", "JID", "CAUSE", "EVIDENCE")


class Wanted(NamedTuple):
    """Which losses are asked for; None is any."""

    since: float | None = None  # seconds ago
    minion: str | None = None
    jid: str | None = None
    cause: str | None = None
    limit: int = 1000


def losses(config: Config, wanted: Wanted, *, as_json: bool) -> int:
    """Print the newest losses that are asked for; return 0, or 2 if the journal could not be read."""
    since = None if wanted.since is None else time.time() - wanted.since
    try:
        _require_known(wanted.cause)
        with reader(config.state_directory) as journal:
            counts = journal.counts(since=since, minion=wanted.minion, jid=wanted.jid, cause=wanted.cause)
            found = journal.losses(
                since=since, minion=wanted.minion, jid=wanted.jid, cause=wanted.cause, limit=wanted.limit
            )
    except SourceError as error:
        print(f"salt-exporter: {error}", file=sys.stderr)
        return 2
    if as_json:
        print(json.dumps([plain(loss) for loss in found], indent=2))
        return 0
    _print_table([_row(loss) for loss in found])
    total = sum(counts.values())
    text = ", ".join(f"{number} {shown(cause)}" for cause, number in counts.items())
    print(f"{total} missing responses" + (f": {text}" if text else ""), file=sys.stderr)
    if total > len(found):
        print(f"these are the newest {len(found)}: --limit shows more", file=sys.stderr)
    return 0


def _require_known(cause: str | None) -> None:
    if cause is not None and cause not in {known.value for known in CAUSES}:
        raise SourceError(f"there is no cause {cause!r}: it is one of {', '.join(known.value for known in CAUSES)}")


def _row(loss: Loss) -> tuple[str, ...]:
    evidence = loss.evidence
    if loss.recovered is not None:
        evidence = f"[recovered {_time(loss.recovered)}] {evidence}"
    return _time(loss.closed), *map(shown, (loss.minion, loss.function, loss.jid, loss.cause, evidence))


def _time(seconds: float) -> str:
    """Write a time as the clock on the wall here shows it."""
    try:
        return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):  # the time of an event may be anything
        return "unknown"


def shown(text: str) -> str:
    """Return text that came over the network with escapes in the place of what could steer a terminal."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    if not rows:
        return
    widths = [max(map(len, column)) for column in zip(_HEADINGS, *rows, strict=True)][:-1]
    for row in (_HEADINGS, *rows):
        print(*(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)), row[-1], sep="  ")
