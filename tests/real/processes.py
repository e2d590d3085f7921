"""The processes of a lab's master, by name, and stopped for a while."""

from __future__ import annotations

import re
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psutil

    from salt_exporter.demo.lab import Lab


def named(lab: Lab, pattern: str) -> list[psutil.Process]:
    """Return the master's processes whose title ends in a name; there must be one."""
    found = [process for process in lab.processes("master") if re.search(rf" {pattern}$", " ".join(process.cmdline()))]
    assert found
    return found


@contextmanager
def stopped(processes: list[psutil.Process]) -> Iterator[None]:
    """Keep processes stopped (SIGSTOP) during the block."""
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)
