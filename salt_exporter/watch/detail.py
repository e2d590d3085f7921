"""Everything an event holds, line by line, for the detail of it. Pure, bounded, and harmless to a terminal."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import msgpack

from salt_exporter.commands.losses import shown
from salt_exporter.master.events import TAG_END
from salt_exporter.status.words import instant, size
from salt_exporter.watch.passed import tag_of, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from salt_exporter.watch.passed import Passed

MOST_LINES: Final = 2_000
LONGEST: Final = 2_000  # letters of one line of a text
_DEEPEST: Final = 30
_STEP: Final = "  "


def lines(event: Passed) -> list[str]:
    """Return tag, time, size and data of an event; what of it is too much is left out, and said to be."""
    found = list(islice(_lines(event), MOST_LINES + 1))
    return found if len(found) <= MOST_LINES else [*found[:MOST_LINES], "… and more"]


def _lines(event: Passed) -> Iterator[str]:
    yield f"tag: {shown(tag_of(event.body))}"
    yield f"time: {instant(event.at)}"
    yield f"size: {size(len(event.body))}"
    yield ""
    if TAG_END not in event.body:
        yield from _entry("bytes:", event.body, 0)
        return
    try:
        data = unpack(event.body)
    except (msgpack.UnpackException, ValueError, TypeError, RecursionError, OverflowError) as error:
        yield f"cannot be decoded: {shown(str(error)) or type(error).__name__}"
        yield from _entry("bytes:", event.body, 0)
        return
    yield from _items(data, 0) if isinstance(data, (dict, list)) else _entry("data:", data, 0)


def _items(value: Any, depth: int) -> Iterator[str]:  # noqa: ANN401 - a map or a list
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _entry(f"{_scalar(key)}:", item, depth)
    else:
        for item in value:
            yield from _entry("-", item, depth)


def _entry(name: str, value: Any, depth: int) -> Iterator[str]:  # noqa: ANN401 - whatever the event holds
    """Write a named value as YAML would, but for people: nothing is quoted."""
    indent = _STEP * depth
    if isinstance(value, (dict, list)) and value and depth >= _DEEPEST:
        yield f"{indent}{name} …"
    elif isinstance(value, (dict, list)) and value:
        yield f"{indent}{name}"
        yield from _items(value, depth + 1)
    elif isinstance(value, str) and len(parts := value.splitlines()) > 1:
        yield f"{indent}{name} |"
        yield from (f"{indent}{_STEP}{_cut(part)}" for part in parts)
    else:
        yield f"{indent}{name} {_scalar(value)}"


def _scalar(value: object) -> str:
    if isinstance(value, (str, bytes)):
        return _cut(value if isinstance(value, str) else repr(value[:LONGEST])[2:-1])
    return _cut(repr(value))


def _cut(text: str) -> str:
    return shown(text) if len(text) <= LONGEST else f"{shown(text[:LONGEST])} … {len(text) - LONGEST:,} more letters"
