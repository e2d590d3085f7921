"""Starts what is measured or measured against, in processes of their own."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_PROGRAMS = Path(__file__).parent / "programs"


class ProcessError(Exception):
    """A process has failed; the text is what it had to say."""


def output(argv: Sequence[str]) -> str:
    """Run a command to its end and return its standard output. Raises ProcessError."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ProcessError(f"{' '.join(argv)} ended with status {done.returncode}: {done.stderr or done.stdout}")
    return done.stdout


class Child:
    """A program of ours, `programs/<name>.py`, that runs until it is closed.

    It says in one line that it is ready, answers each line with one, and ends with its standard input: so it ends even
    if we are killed. It has a session of its own, for Ctrl-C is for us to act upon.
    """

    def __init__(self, python: str, name: str, *arguments: object) -> None:
        self._name = name
        self._process = subprocess.Popen(
            [python, str(_PROGRAMS / f"{name}.py"), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_ready(self) -> None:
        """Return when the program is ready. Raises ProcessError."""
        self._read()

    def ask(self, line: str = "") -> str:
        """Send a line and return the answer. Raises ProcessError."""
        if self._process.stdin:
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End the program."""
        self._process.terminate()
        with self._process:  # closes the pipes and waits
            pass

    def _read(self) -> str:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise ProcessError(f"{self._name} ended with status {self._process.wait()}")
        return line
