"""A terminal with a program in it: what it shows, read as a person would, and keys to press."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import pyte

from tests.unit.daemons import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Sequence

# Says which keyboard protocol the program would like; pyte takes its last letter for text.
_KITTY: Final = re.compile(rb"\x1b\[[<>=]\d*u")
KEYS: Final = {"enter": "\r", "escape": "\x1b", "up": "\x1b[A", "down": "\x1b[B", "end": "\x1b[F", "ctrl+c": "\x03"}


class Terminal:
    """Runs a program in a pseudo-terminal."""

    def __init__(self, argv: Sequence[str], width: int = 80, height: int = 24) -> None:
        self.raw = b""  # everything the program has written
        self._screen = pyte.Screen(width, height)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()  # of the screen
        self._reading = threading.Event()
        self._reading.set()
        self._ended = threading.Event()
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SALT_EXPORTER_")}
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *argv],  # as a login does: the terminal is its own, and it hears when that goes away
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**environment, "TERM": "xterm-256color"},
        )
        os.close(theirs)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._ended.is_set():
            if self._reading.wait(0.05) and select.select([self._ours], [], [], 0.05)[0]:
                try:
                    data = os.read(self._ours, 1 << 16)
                except OSError:  # the program has ended
                    return
                with self._lock:
                    self.raw += data
                    self._stream.feed(_KITTY.sub(b"", data))

    def pause(self) -> None:
        """Read nothing more, as a connection that hangs does."""
        self._reading.clear()

    def resume(self) -> None:
        """Read again."""
        self._reading.set()

    def press(self, *keys: str) -> None:
        """Press keys, by name or as text."""
        for key in keys:
            os.write(self._ours, KEYS.get(key, key).encode())
            time.sleep(0.05)  # so that an escape is not taken for the beginning of something else

    def settings(self) -> list[Any]:
        """Return how the terminal treats what is typed, as termios has it."""
        return termios.tcgetattr(self._ours)

    def hang_up(self) -> None:
        """Break the connection."""
        self._ended.set()
        self._thread.join()
        os.close(self._ours)

    def lines(self) -> list[str]:
        """Return the screen."""
        with self._lock:
            return [line.rstrip() for line in self._screen.display]

    def text(self) -> str:
        """Return the screen as one text."""
        return "\n".join(self.lines())

    def wait(self, pattern: str, seconds: float = PATIENCE) -> str:
        """Wait until the screen shows something, and return the screen."""
        deadline = time.monotonic() + seconds
        while not re.search(pattern, text := self.text(), re.MULTILINE):
            assert time.monotonic() < deadline, f"not on the screen: {pattern}\n{text}"
            assert self.process.poll() is None, f"has ended, and never showed {pattern}:\n{self.raw[-3000:].decode()}"
            time.sleep(0.05)
        return text

    def end(self, seconds: float = PATIENCE) -> int:
        """Wait until the program has ended, and return its exit status."""
        status = self.process.wait(seconds)
        self._thread.join(seconds)
        return status

    def close(self) -> None:
        """Hang up: what still runs is told so, and ended."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if not self._ended.is_set():
            self.hang_up()
