"""The command: from a terminal to the view, and back."""

from __future__ import annotations

import logging
import sys
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from salt_exporter.errors import SourceError
from salt_exporter.watch.app import WatchApp
from salt_exporter.watch.source import Master

if TYPE_CHECKING:
    from collections.abc import Iterator

    from salt_exporter.config import Config

_HELD: Final = 100  # log lines


def watch(config: Config) -> int:
    """Show the master until told to end; return the exit status, 2 if there is no terminal or no master."""
    try:
        _require_terminal()
        master = Master(config)
        master.start()
    except SourceError as error:
        print(f"salt-exporter: {error}", file=sys.stderr)
        return 2
    app = WatchApp(master)
    with _log_held_back():
        app.run(mouse=False)  # so that text can be selected as in any other program
        master.stop()
    return app.return_code or 0


def _require_terminal() -> None:
    """Raise SourceError unless there are keys to read and a screen to draw on (Textual draws on standard error)."""
    streams = {"standard input": sys.stdin, "standard output": sys.stdout, "standard error": sys.stderr}
    for name, stream in streams.items():
        if stream is None or not stream.isatty():
            raise SourceError(
                f"{name} is no terminal: watch draws a screen and reads keys; `salt-exporter check` prints a report"
            )


@contextmanager
def _log_held_back() -> Iterator[None]:
    """Keep log lines off the screen; the last of them are printed when it is free again."""
    held = _Held()
    handlers = (handler for handler in logging.getLogger().handlers if isinstance(handler, logging.StreamHandler))
    printing = [handler for handler in handlers if handler.stream is sys.stderr]
    for handler in printing:
        handler.setStream(held)
    try:
        yield
    finally:
        for handler in printing:
            handler.setStream(sys.stderr)
        print(*held.lines, sep="", end="", file=sys.stderr)


class _Held:
    """Takes what a log handler writes."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=_HELD)

    def write(self, text: str) -> int:
        """Keep a line."""
        self.lines.append(text)
        return len(text)

    def flush(self) -> None:
        """Do nothing, for a stream has this."""
