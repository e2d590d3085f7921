"""A master's event bus of our own: the socket that readers connect to, and what they are sent."""

from __future__ import annotations

import array
import fcntl
import socket
import termios
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME: Final = "master_event_pub.ipc"  # below sock_dir
_PATIENCE: Final = 60.0  # seconds for a reader to come, or to take what it is sent
_LOOK: Final = 0.0002  # seconds between looks at what a reader has left


class Bus:
    """The bus with one reader."""

    def __init__(self, reader: socket.socket) -> None:
        self._reader = reader

    def send(self, events: bytes) -> float:
        """Send whole frames, and return when that was done, monotonic seconds: it takes as long as the reader does."""
        self._reader.sendall(events)
        return time.monotonic()

    def pick_up(self, event: bytes) -> float:
        """Send one event and return how many seconds the reader leaves it lying."""
        sent = time.monotonic()
        self._reader.sendall(event)
        unread = array.array("i", [1])
        while unread[0]:
            time.sleep(_LOOK)
            fcntl.ioctl(self._reader, termios.TIOCOUTQ, unread)
        return time.monotonic() - sent


@contextmanager
def listening(folder: Path) -> Iterator[socket.socket]:
    """Listen where a master with this sock_dir would; the socket of a real one stands aside meanwhile."""
    path, aside = folder / NAME, folder / f"{NAME}.aside"
    with suppress(FileNotFoundError):
        path.rename(aside)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(_PATIENCE)
        try:
            yield listener
        finally:
            path.unlink()
            with suppress(FileNotFoundError):
                aside.rename(path)


@contextmanager
def accepted(listener: socket.socket) -> Iterator[Bus]:
    """Accept the next reader, who is cut off at the end."""
    reader, _nobody = listener.accept()
    with reader:
        reader.settimeout(_PATIENCE)
        yield Bus(reader)
