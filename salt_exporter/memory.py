"""Suits malloc and the garbage collector to a daemon that makes tables of thousands of connections every few seconds.

glibc's malloc holds on to what Python has given back: each thread has an arena of its own by default, and each large
block that is freed makes malloc take larger and larger ones from there instead of from the system (mallopt(3),
M_ARENA_MAX and M_MMAP_THRESHOLD). With short threads a daemon grows by a quarter from that alone.

Python's collector looks for cycles among everything that is old whenever a few tables have been made, and nobody else
runs meanwhile. What is old here is tables, which are in no cycles.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import suppress
from typing import Final

# malloc.h; the value of the first is the one that is the default before malloc raises it.
_SETTINGS: Final = {-3: 128 << 10, -1: 128 << 10, -8: 1}  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_ARENA_MAX
_SELDOM: Final = 100  # collections of what is young between two of what is old: about a minute with 20,000 minions


def without_curses() -> None:
    """Keep tornado.log (Tornado 6.5) from loading ncurses, to colour what we never show: 0.6 MB of a small daemon.

    To be called before Tornado is imported; None is what makes an import fail (docs.python.org, sys.modules).
    """
    sys.modules.setdefault("curses", None)  # type: ignore[arg-type] # typeshed does not know of None


def return_memory() -> None:
    """Set this for the whole process; to be called before it starts threads. Other C libraries are left alone."""
    with suppress(AttributeError):  # musl's malloc has no such settings, and does not need them
        mallopt = ctypes.CDLL(None).mallopt
        for setting, value in _SETTINGS.items():
            mallopt(setting, value)


def collect_seldom() -> None:
    """Look for cycles among old objects a tenth as often as by default (gc.set_threshold)."""
    young, middle, _old = gc.get_threshold()
    gc.set_threshold(young, middle, _SELDOM)
