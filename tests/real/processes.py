"""The processes of a lab's master, by name, and stopped for a while."""

from __future__ import annotations

import re
import signal
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

    from salt_exporter.demo.lab import Lab


def named(lab: Lab, pattern: str) -> list[psutil.Process]:
    """Return the master's processes whose title ends in a name; there must be one."""
    found = [process for process in lab.processes("master") if re.search(rf" {pattern}$", " ".join(process.cmdline()))]
    assert found
    return found


@contextmanager
def stopped(processes: list[psutil.Process]) -> Iterator[None]:
    """Keep processes stopped (SIGSTOP) during the block."""
    _send(processes, signal.SIGSTOP)
    try:
        yield
    finally:
        _send(processes, signal.SIGCONT)


def _send(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # Salt starts some that do not live long
            process.send_signal(number)
