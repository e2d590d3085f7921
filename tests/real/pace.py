"""How slow the machine is: the one place from which tests with real Salt take how long a job may be out.

A return that comes after its job's deadline counts as missing, and how soon a healthy minion returns depends on what
else the machine has to do. Tests of the deadline itself do not use this.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Final

# Starting Python with what a Salt process needs at least: half the work of a job is of this kind.
_WORK: Final = (sys.executable, "-c", "import asyncio, json, logging, multiprocessing, ssl, subprocess, uuid")
_IDLE: Final = 0.13  # seconds for that on an idle machine
_TIMES: Final = 3
_MOST: Final = 6.0  # beyond that a test would take too long to be of use


def slowness() -> float:
    """Return how many times as long as on an idle machine things take now, from 1 to 6."""
    began = time.monotonic()
    for _ in range(_TIMES):
        subprocess.run(_WORK, check=True)
    return min(max((time.monotonic() - began) / _TIMES / _IDLE, 1.0), _MOST)


def deadline(seconds: float) -> float:
    """Return the deadline, in whole seconds, of jobs that a healthy minion answers in less than so many when idle."""
    return float(round(seconds * slowness()))
