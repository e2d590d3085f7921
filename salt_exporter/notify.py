"""Tells systemd how the service fares: the datagrams of sd_notify(3). Where nobody listens, nothing is sent."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_LOOK_EVERY: Final = 10.0  # seconds between looks at our own threads where nobody asks for a sign of life
_PATIENCE: Final = 0.5  # seconds for a manager whose queue is full; nothing else happens meanwhile

_log = logging.getLogger(__name__)


class Notifier:
    """The way to the service manager that has started us, by the variables of its protocol."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        """Take NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID."""
        path = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._status = ""
        for_us = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        usec = environ.get("WATCHDOG_USEC", "")
        # Seconds within which the manager wants a sign of life, None if it wants none.
        self.watchdog = int(usec) / 1e6 if path and for_us and usec.isdigit() and int(usec) else None

    def ready(self) -> None:
        """Tell that the start, or a reload, is complete."""
        self._tell("READY=1")

    def reloading(self) -> None:
        """Tell that a reload begins."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Tell that the end begins."""
        self._tell("STOPPING=1")

    def alive(self) -> None:
        """Feed the watchdog."""
        self._tell("WATCHDOG=1")

    def status(self, text: str) -> None:
        """Show one line in `systemctl status`; sent when it is new."""
        if text != self._status and self._tell("STATUS=" + text.replace("\n", " ")):
            self._status = text

    def _tell(self, *lines: str) -> bool:
        if not self._address:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(_PATIENCE)
                sender.sendto("\n".join(lines).encode("utf-8", "replace"), self._address)
        except OSError as error:  # a manager that is too busy to listen is no reason to stop working
            _log.debug("cannot tell the service manager %s: %s", lines[0], error)
            return False
        return True


async def stay_alive(notifier: Notifier, vital: frozenset[str], status: Callable[[], str]) -> None:
    """Feed the watchdog as long as the event loop that runs this, and every thread named `vital`, are alive."""
    told: frozenset[str] = frozenset()
    while True:
        gone = vital - {thread.name for thread in threading.enumerate()}
        if gone:
            problem = f"these threads have ended: {', '.join(sorted(gone))}"
            if gone != told:
                _log.error("%s; the exporter has to be started again", problem)
                told = gone
            notifier.status(problem)
        else:
            notifier.alive()
            notifier.status(status())
        await asyncio.sleep(notifier.watchdog / 3 if notifier.watchdog else _LOOK_EVERY)
