"""Reads a master's event bus in one of several ways: `reader.py <way> <socket>`.

The line on standard input is a number of events to read, answered when they have been read: with how many were read,
how many were thrown away, and the CPU time of all that, in seconds.
"""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgpack

from salt_exporter.analysis.activity import Activity
from salt_exporter.analysis.deadlines import Deadlines
from salt_exporter.analysis.jobs import JobLedger
from salt_exporter.intake import Intake
from salt_exporter.master.bus import BusAddress, BusReader
from salt_exporter.memory import return_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 1 << 18  # bytes
_HEAD = len(b"\x82\xa4head\x80\xa4body\xc5") + 2  # of frames of which nothing but the length, of two bytes, differs


def frames(bus: socket.socket) -> Iterator[int]:
    """Cut frames by their lengths and look at nothing; yield how many each chunk has completed."""
    rest = b""
    while data := bus.recv(_CHUNK):
        rest += data
        offset = number = 0
        while len(rest) - offset >= _HEAD:
            end = offset + _HEAD + int.from_bytes(rest[offset + _HEAD - 2 : offset + _HEAD], "big")
            if end > len(rest):
                break
            rest[offset + _HEAD : end]
            offset = end
            number += 1
        rest = rest[offset:]
        yield number


def unpack(bus: socket.socket) -> Iterator[int]:
    """Decode everything, as Salt's client does (salt/utils/event.py, `unpack`), and do nothing else."""
    unpacker = msgpack.Unpacker(raw=False, strict_map_key=False)
    while data := bus.recv(_CHUNK):
        unpacker.feed(data)
        number = 0
        for frame in unpacker:
            _tag, _end, body = frame["body"].partition(b"\n\n")
            msgpack.unpackb(body, raw=False, strict_map_key=False)
            number += 1
        yield number


def _read(way: str, path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bus:
        bus.connect(str(path))
        numbers = {"frames": frames, "unpack": unpack}[way](bus)
        print("ready", flush=True)
        for line in sys.stdin:
            found, before = 0, time.process_time()
            while found < int(line):
                found += next(numbers)
            print(found, 0, time.process_time() - before, flush=True)


def _exporter(path: Path) -> None:
    """Read as the daemon does: received by one thread, decoded and applied to the job ledger by another."""
    return_memory()
    activity = Activity(JobLedger(Deadlines(60.0, ()), 50, 10_000))
    intake = Intake(activity, lambda _body, _now: None, lambda *_published: None)
    bus = BusReader(lambda: BusAddress(path), intake.deliver, activity.gap)
    bus.start()
    print("ready", flush=True)
    for line in sys.stdin:
        before = time.process_time()
        while (found := activity.kinds.total() + activity.undecodable) + bus.counters.shed < int(line):
            time.sleep(0.001)
        print(found, bus.counters.shed, time.process_time() - before, flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "exporter":
        _exporter(Path(sys.argv[2]))
    else:
        _read(sys.argv[1], Path(sys.argv[2]))
