"""Framing of the master's event bus: bytes in, event bodies out. Pure, no sockets.

The publish side (`master_event_pub.ipc`) sends one msgpack map per event, `{"head": {}, "body": <bin>}`:

* 3007 and 3008 bare, one after the other (salt/transport/frame.py, `frame_msg`);
* 3006.26 and later with a 4-byte big-endian length before each (`frame_msg_ipc`), before that bare.

Which one is told apart at each frame, so a master that is upgraded under a running exporter needs no switch.
"""

from __future__ import annotations

import struct
from typing import Final

import msgpack

MAP_START: Final = b"\x82\xa4head"  # fixmap of 2, fixstr "head": how every frame begins
_BODY_KEY: Final = MAP_START + b"\x80\xa4body"  # an empty head, which is all that masters send
_PREFIX: Final = 4
_SHORTEST: Final = _PREFIX + len(MAP_START)  # fewer bytes cannot be told apart
# Salt trims events to max_event_size (1 MB by default); a length beyond this is garbage, not an event.
MAX_FRAME: Final = 128 << 20
MAX_HEAD: Final = 1 << 12  # the same for what stands before the body, which is nothing
_UINT8, _UINT16, _UINT32 = struct.Struct(">B"), struct.Struct(">H"), struct.Struct(">I")
# How the length of a body is written: bin 8 to 32, as masters send, and str 8 to 32. (No event is so short that its
# length would fit into the type byte of a text: it has a tag and a time stamp.)
_LENGTH: Final = {0xC4: _UINT8, 0xC5: _UINT16, 0xC6: _UINT32, 0xD9: _UINT8, 0xDA: _UINT16, 0xDB: _UINT32}


class Framer:
    """Cuts the byte stream of one bus connection into event bodies; skips garbage to the next frame."""

    def __init__(self) -> None:
        self.errors = 0  # stretches of bytes that were no frame and have been skipped
        self._chunks: list[bytes] = []
        self._size = 0  # of all chunks
        self._needed = _SHORTEST  # bytes that must be there before looking again is worth it
        self._skipping = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take received bytes, return the bodies (tag, blank line, msgpack) of the frames now complete."""
        self._chunks.append(data)
        self._size += len(data)
        if self._size < self._needed:
            return []
        buffer = b"".join(self._chunks)
        bodies: list[bytes] = []
        offset = 0
        while len(buffer) - offset >= _SHORTEST:
            if buffer.startswith(MAP_START, offset):
                start = offset
            elif buffer.startswith(MAP_START, offset + _PREFIX):
                start = offset + _PREFIX
            else:
                offset = self._skip(buffer, offset)
                continue
            body, end = _frame(buffer, start)
            if end > len(buffer):
                break
            if body is None:
                offset = self._skip(buffer, start + 1)
            else:
                self._skipping = False
                bodies.append(body)
                offset = end
        self._keep(buffer, offset)
        return bodies

    def _keep(self, buffer: bytes, offset: int) -> None:
        """Hold back what is no whole frame yet."""
        rest = buffer[offset:]
        self._chunks = [rest]
        self._size = len(rest)
        self._needed = _SHORTEST
        if len(rest) >= _SHORTEST:
            start = 0 if rest.startswith(MAP_START) else _PREFIX
            self._needed = _frame(rest, start)[1]

    def _skip(self, buffer: bytes, offset: int) -> int:
        """Return where the next frame may start behind garbage at `offset`, counting the stretch once."""
        if not self._skipping:
            self.errors += 1
            self._skipping = True
        found = buffer.find(MAP_START, offset)
        if found < 0:  # a frame may begin in the last bytes
            return max(offset + 1, len(buffer) - _SHORTEST + 1)
        return found


def _frame(buffer: bytes, start: int) -> tuple[bytes | None, int]:
    """Read the map at `start`: (body, where it ends), or (None, start) if it is no event.

    An end beyond the buffer says how long the buffer must be before asking again.
    """
    header = start + len(_BODY_KEY) if buffer.startswith(_BODY_KEY, start) else _behind_unusual_head(buffer, start)
    if header == start:
        return None, start
    if header >= len(buffer):
        return None, header + 1
    length = _LENGTH.get(buffer[header])
    if length is None:
        return None, start
    begin = header + 1 + length.size
    if len(buffer) < begin:
        return None, begin
    end: int = begin + length.unpack_from(buffer, header + 1)[0]
    return (buffer[begin:end], end) if end - begin <= MAX_FRAME else (None, start)


def _behind_unusual_head(buffer: bytes, start: int) -> int:
    """Step over a head that is not empty, or not there yet; return where the body's value starts.

    `start` says that this is no event, an offset beyond the buffer that more must come.
    """
    head = start + len(MAP_START)
    unpacker = msgpack.Unpacker(raw=True, strict_map_key=False, max_buffer_size=MAX_HEAD)
    try:
        unpacker.feed(buffer[head : head + MAX_HEAD])
        unpacker.skip()
        key = unpacker.unpack()
    except msgpack.OutOfData:
        return len(buffer) if len(buffer) - head < MAX_HEAD else start
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError):
        return start
    return head + unpacker.tell() if key == b"body" else start
