"""Keeps glibc's malloc from holding on to memory that Python has given back.

Each thread has an arena of its own by default, and each large block that is freed makes malloc take larger and larger
ones from there instead of from the system (mallopt(3), M_ARENA_MAX and M_MMAP_THRESHOLD). A daemon that builds tables
of thousands of connections every few seconds, in short threads, grows by a quarter from that alone.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from typing import Final

# malloc.h; the value of the first is the one that is the default before malloc raises it.
_SETTINGS: Final = {-3: 128 << 10, -1: 128 << 10, -8: 1}  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_ARENA_MAX


def return_memory() -> None:
    """Set this for the whole process; to be called before it starts threads. Other C libraries are left alone."""
    with suppress(AttributeError):  # musl's malloc has no such settings, and does not need them
        mallopt = ctypes.CDLL(None).mallopt
        for setting, value in _SETTINGS.items():
            mallopt(setting, value)
