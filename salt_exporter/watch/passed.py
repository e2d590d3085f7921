"""An event of the bus as one row of the list: when, tag, minion, function, jid, outcome. Pure.

Whatever the network has sent goes through `shown`: no letter of a row can steer the terminal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgpack

from salt_exporter.commands.losses import shown
from salt_exporter.master.events import (
    MAX_ID,
    MAX_TAG,
    TAG_END,
    EventError,
    JobNew,
    JobReturn,
    JobStart,
    decode,
    kind_of,
)

# Events of these kinds are small; what is larger is not one of them, and not worth decoding for a row.
_LARGEST: Final = 1 << 16
# `act` of events about keys (salt/channel/server.py).
_REFUSALS: Final = frozenset(("reject", "rejected", "denied", "full"))


@dataclass(frozen=True, slots=True)
class Notice:
    """A row that is no event: something that happened to the view itself."""

    number: int
    at: float  # Unix seconds
    says: str


@dataclass(frozen=True, slots=True)
class Passed:
    """An event that has passed. A text is "" where the event does not say it."""

    number: int  # of the row; they grow
    at: float  # when the master fired it, else when it came; Unix seconds
    tag: str
    minion: str
    function: str
    jid: str
    outcome: str
    bad: bool  # the outcome is none that anybody wished for
    body: bytes

    @property
    def short_tag(self) -> str:
        """The tag without the parts that have columns of their own."""
        first, *rest = self.tag.split("/")
        return "/".join([first, *("…" if part and part in (self.jid, self.minion) else part for part in rest)])


Row = Passed | Notice


def tag_of(body: bytes) -> str:
    """Return the tag of an event body, or of what is none the beginning."""
    return body[:MAX_TAG].partition(TAG_END)[0].decode("utf-8", "replace")


def passed(number: int, arrived: float, body: bytes) -> Passed:
    """Read an event body, which may be anything; `arrived` in Unix seconds."""
    tag = tag_of(body)
    try:
        event = decode(body)
    except EventError as error:
        return Passed(number, arrived, shown(tag), "", "", "", f"no event: {shown(str(error))}", bad=True, body=body)
    match event.detail:
        case JobNew(jid, function, minions, missing):
            number_expected = len(minions) + len(missing)
            said = "", function, jid, f"→{number_expected or '?'}"
        case JobReturn(jid, function, minion, success):
            said = minion, function, jid, "ok" if success else "failed"
        case JobStart(jid, minion):
            said = minion, "", jid, "started"
        case _:
            said = _said(tag, event.minion, body)
    minion, function, jid, outcome = map(shown, said)
    at = arrived if event.stamp is None else event.stamp
    return Passed(
        number, at, shown(tag), minion, function, jid, outcome, outcome == "failed" or outcome in _REFUSALS, body
    )


def _said(tag: str, sender: str | None, body: bytes) -> tuple[str, str, str, str]:
    """Return minion, function, jid and outcome of an event that `decode` knows only the kind of."""
    data = _data(body) if len(body) <= _LARGEST else {}
    if data.get("cmd") == "_minion_event":  # a minion has fired it, whatever its tag claims
        return sender or "", "", "", ""
    jid = tag if kind_of(tag.split("/", 4)) == "job_jid" else _text(data, "jid")
    success = data.get("success")
    outcome = ("ok" if success else "failed") if isinstance(success, bool) else _text(data, "act")
    return sender or _text(data, "id"), _text(data, "fun"), jid, outcome


def _text(data: dict[str, Any], key: str) -> str:
    value = data.get(key)
    return value[:MAX_ID] if isinstance(value, str) else ""


def _data(body: bytes) -> dict[str, Any]:
    data = unpack(body)
    return data if isinstance(data, dict) else {}


def unpack(body: bytes) -> Any:  # noqa: ANN401 - whatever the event holds
    """Return the data of an event body that has a tag. Raises ValueError, msgpack.UnpackException or RecursionError."""
    start = body.find(TAG_END, 0, MAX_TAG + len(TAG_END)) + len(TAG_END)
    unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, unicode_errors="replace", max_buffer_size=len(body))
    unpacker.feed(memoryview(body)[start:])
    return unpacker.unpack()
