"""Run a module of Python with a wall clock that its tests step: the machine's own is everybody's.

stepping_clock.py FILE PYTHON -m MODULE ARGUMENT...: FILE holds by how many seconds the clock is wrong. Any other
command line is run as it is.
"""

from __future__ import annotations

import os
import runpy
import sys
import time
from pathlib import Path


def step_by(file: Path) -> None:
    """Let `time.time` be wrong by what a file says at that moment."""
    clock = time.time
    time.time = lambda: clock() + float(file.read_text())


if __name__ == "__main__":
    _, steps, *command = sys.argv
    if command[1] != "-m":
        os.execvp(command[0], command)  # noqa: S606 - its tests name the program
    module, *arguments = command[2:]
    step_by(Path(steps))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
