"""What the answers to all netlink dumps have in common. Pure, no sockets.

Source: include/uapi/linux/netlink.h (`nlmsghdr`, `nlattr`), include/uapi/linux/sock_diag.h. Host byte order.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from errno import errorcode
from os import strerror
from sys import byteorder
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

SOCK_DIAG_BY_FAMILY: Final = 20
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
NLM_F_MULTI: Final = 0x2
NLM_F_DUMP_INTR: Final = 0x10
_NLM_F_REQUEST: Final = 0x1
_NLM_F_DUMP: Final = 0x300

NLMSGHDR: Final = struct.Struct("=IHHII")
ATTRIBUTE: Final = struct.Struct("=HH")


class DiagError(ValueError):
    """The kernel's answer cannot be read, or is an error (then `errno` is set)."""

    def __init__(self, message: str, errno: int = 0) -> None:
        super().__init__(message)
        self.errno = errno


def sock_diag_dump(body: bytes) -> bytes:
    """Return the message that asks for a dump of sockets; `body` is the request of the family."""
    flags = _NLM_F_REQUEST | _NLM_F_DUMP
    return NLMSGHDR.pack(NLMSGHDR.size + len(body), SOCK_DIAG_BY_FAMILY, flags, 1, 0) + body


def attributes(message: memoryview, offset: int) -> Iterator[tuple[int, int, int]]:
    """Yield (type, start, end) of the value of each attribute from `offset` on. Raises DiagError."""
    while offset + ATTRIBUTE.size <= len(message):
        length, kind = ATTRIBUTE.unpack_from(message, offset)
        if length < ATTRIBUTE.size or offset + length > len(message):
            raise DiagError(f"netlink attribute of {length} bytes at {offset} in a message of {len(message)}")
        yield kind, offset + ATTRIBUTE.size, offset + length
        offset += (length + 3) & ~3


class Answer(ABC):
    """The answer to one dump, fed chunk by chunk until `done`."""

    def __init__(self) -> None:
        self.done = False
        self.interrupted = False  # the kernel says its table changed in a way that may have hidden sockets

    def feed(self, chunk: bytes | memoryview) -> None:
        """Take what one `recv` returned: whole netlink messages. Raises DiagError."""
        rest = memoryview(chunk)
        while rest and not self.done:
            rest = rest[self._take(rest) :]

    def _take(self, view: memoryview) -> int:
        """Take the first message and return its bytes, with those that fill up to the next one."""
        if len(view) < NLMSGHDR.size:
            raise DiagError(f"{len(view)} bytes left over where a netlink message should begin")
        length, kind, flags, _sequence, _port = NLMSGHDR.unpack_from(view)
        if not NLMSGHDR.size <= length <= len(view):
            raise DiagError(f"netlink message of {length} bytes with {len(view)} bytes left")
        if kind in (NLMSG_ERROR, NLMSG_DONE):
            self._end(kind, view[:length])
        elif kind == SOCK_DIAG_BY_FAMILY:
            self._add(view[:length])
        # NLMSG_NOOP and kinds that future kernels add carry no socket.
        self.interrupted |= bool(flags & NLM_F_DUMP_INTR)
        return int((length + 3) & ~3)

    def _end(self, kind: int, message: memoryview) -> None:
        body = message[NLMSGHDR.size :]
        code = int.from_bytes(body[:4], byteorder, signed=True) if len(body) >= 4 else 0
        if code < 0:
            known = errorcode.get(-code)
            raise DiagError(f"the kernel answers {f'{known}: {strerror(-code)}' if known else -code}", -code)
        self.done = kind == NLMSG_DONE

    @abstractmethod
    def _add(self, message: memoryview) -> None:
        """Take the message of one socket, header included. Raises DiagError."""
