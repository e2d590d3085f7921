"""Benchmark: reading events off the master's bus."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgpack

from benchmarks.measure import Contender, Row, Table, at_most, ratios, take_turns
from salt_exporter.master.events import TAG_END, decode
from salt_exporter.master.wire import Framer

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROUNDS: Final = 15
_CHUNK: Final = 1 << 18  # bytes, what one recv takes
_STREAM: Final = 16 << 20  # bytes read in each round
_DISTINCT: Final = 100  # events, repeated until the stream is full

_FLOOR: Final = "lengths read, bodies cut out, nothing looked at"
_OURS: Final = "**`Framer` and `decode`**"
_FULL: Final = "msgpack, everything decoded"


def intake() -> tuple[Table, Table]:
    """Compare ways to read small and large returns."""
    return (
        _intake("small returns", [_command_return(number) for number in range(_DISTINCT)], 20),
        _intake("returns of states", [_state_return(number) for number in range(_DISTINCT)], 1e6 / 15_000),
    )


def _intake(kind: str, events: list[dict[str, Any]], limit: float) -> Table:
    """Compare ways to read a stream of these events; `limit` is how many microseconds one may take us."""
    frames = b"".join(_frame(event) for event in events)
    stream = frames * (_STREAM // len(frames) + 1)
    number = len(events) * (_STREAM // len(frames) + 1)
    contenders = {_FLOOR: _cut, _OURS: _ours, _FULL: _decode_all}
    series = take_turns(_ROUNDS, {name: Contender(partial(read, stream), 3) for name, read in contenders.items()})
    rows = []
    for name, one in series.items():
        if one.answer != number:
            raise RuntimeError(f"{name} found {one.answer} events, not {number}")
        values = [seconds / number * 1e6 for seconds in one.seconds]
        goal = at_most(round(limit), values, f" µs ({1e6 / limit:,.0f}/s)") if name == _OURS else None
        rows.append(Row(name, ratios(one.seconds, series[_FLOOR].seconds), values, goal))
    return Table(
        f"Event intake: {kind}",
        f"Frames of {len(frames) / len(events) / 1000:.1f} kB as Salt 3007 and 3008 send them, read from memory.",
        "times the floor",
        "µs per event",
        rows,
    )


def _cut(stream: bytes) -> int:
    """Walk over frames of which nothing but the length differs: map, head, empty map, body, 2-byte length."""
    found = offset = 0
    head = len(b"\x82\xa4head\x80\xa4body\xc5")
    while offset < len(stream):
        begin = offset + head + 2
        offset = begin + int.from_bytes(stream[begin - 2 : begin], "big")
        stream[begin:offset]
        found += 1
    return found


def _ours(stream: bytes) -> int:
    found = 0
    framer = Framer()
    for chunk in _chunks(stream):
        for body in framer.feed(chunk):
            decode(body)
            found += 1
    return found


def _decode_all(stream: bytes) -> int:
    """Do what Salt's own client does with each event (salt/utils/event.py, `unpack`)."""
    found = 0
    unpacker = msgpack.Unpacker(raw=False, strict_map_key=False)
    for chunk in _chunks(stream):
        unpacker.feed(chunk)
        for frame in unpacker:
            _tag, _end, data = frame["body"].partition(TAG_END)
            msgpack.unpackb(data, raw=False, strict_map_key=False)
            found += 1
    return found


def _chunks(stream: bytes) -> Iterator[bytes]:
    for start in range(0, len(stream), _CHUNK):
        yield stream[start : start + _CHUNK]


def _frame(event: dict[str, Any]) -> bytes:
    tag = f"salt/job/{event['jid']}/ret/{event['id']}".encode()
    return bytes(msgpack.packb({"head": {}, "body": tag + TAG_END + msgpack.packb(event)}))


def _command_return(number: int) -> dict[str, Any]:
    return _return(number, "cmd.run", ["df -h"], "/dev/mapper/vg0-root  ext4  97G  41G  52G  45% /\n" * 16)


def _state_return(number: int) -> dict[str, Any]:
    """Return what 100 states give, of which one has changed a file."""
    states = {
        f"file_|-/etc/app/conf.d/{state:02}.conf_|-/etc/app/conf.d/{state:02}.conf_|-managed": {
            "name": f"/etc/app/conf.d/{state:02}.conf",
            "changes": {"diff": "-old line\n+new line\n" * 20} if state == number else {},
            "result": True,
            "comment": f"File /etc/app/conf.d/{state:02}.conf is in the correct state",
            "__sls__": "app.config",
            "__run_num__": state,
            "start_time": "10:11:12.131415",
            "duration": 12.345,
            "__id__": f"/etc/app/conf.d/{state:02}.conf",
        }
        for state in range(100)
    }
    return _return(number, "state.apply", ["app.config"], states) | {"out": "highstate"}


def _return(number: int, function: str, arguments: list[str], result: object) -> dict[str, Any]:
    """Return the data of `salt/job/<jid>/ret/<id>` as 3008 fires it."""
    return {
        "cmd": "_return",
        "id": f"minion-{number:05}",
        "success": True,
        "return": result,
        "retcode": 0,
        "jid": "20251122101112131415",
        "fun": function,
        "fun_args": arguments,
        "user": "root",
        "ts": 1763806272,
        "_stamp": "2025-11-22T10:11:12.131415+00:00",
    }
