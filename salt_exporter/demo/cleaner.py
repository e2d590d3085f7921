"""A process that starts all others, and once its owner is gone ends them all and removes their folder.

Salt forks a lot, its processes overwrite their environment with their title, and the owner may be killed at
any moment. So nothing is marked or searched for: the cleaner is the *subreaper* of all it starts (prctl(2),
PR_SET_CHILD_SUBREAPER). A descendant whose parent dies becomes the cleaner's child, whatever session or
process group it made for itself, hence the cleaner's descendants are all there is to end, and nothing else.
That its owner is gone, even by SIGKILL, it learns from the end of the pipe between them.

The owner holds a `Cleaner`; `serve` is what runs in the other process.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType

# include/uapi/linux/prctl.h
_PR_SET_CHILD_SUBREAPER = 36

# How long processes may take to end by themselves after SIGTERM, and how long to try SIGKILL.
_TERM_SECONDS = 2.0
_KILL_SECONDS = 10.0


class CleanerError(Exception):
    """The folder cannot be made, a program cannot be started, or the cleaner itself was killed."""


class Cleaner:
    """The owner's side: `folder` exists, and what `spawn` started may run, until `close` or the owner's end.

    A given `folder` must be empty or not exist yet; it is removed like a temporary one. Raises CleanerError.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._pipe, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", f"from {__name__} import serve; serve({theirs.fileno()})"],
                pass_fds=[theirs.fileno()],
                # A session of its own: Ctrl-C in the terminal is for the owner alone to act upon.
                start_new_session=True,
                stdin=subprocess.DEVNULL,
            )
        try:
            self.folder = Path(self._ask(folder and str(folder.absolute())))
        except CleanerError:
            self.close()
            raise

    def spawn(self, argv: Sequence[str], env: Mapping[str, str], stdout: Path, stderr: Path | None = None) -> int:
        """Start a program as the leader of a session of its own and return its process id.

        Its output is appended to `stdout` and `stderr`, all to `stdout` if there is no other.
        Raises CleanerError.
        """
        return int(self._ask((list(argv), dict(env), str(stdout), str(stderr or stdout))))

    def session(self, leader: int) -> list[psutil.Process]:
        """Return the living processes of the session which `spawn` started under this process id."""
        return [process for process in _descendants(self._process.pid) if _is_alive_in(process, leader)]

    def close(self) -> None:
        """End every process and remove the folder; return when that is done."""
        self._pipe.close()
        self._process.wait()

    def _ask(self, request: object) -> str:
        try:
            self._pipe.send(request)
            answer: str | OSError = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise CleanerError("the process that cleans up was killed") from error
        if isinstance(answer, OSError):
            raise CleanerError(str(answer)) from answer
        return answer


def _descendants(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


def _is_alive_in(process: psutil.Process, session: int) -> bool:
    with suppress(psutil.NoSuchProcess, ProcessLookupError):
        return os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE
    return False


def serve(pipe_fd: int) -> None:
    """Be the cleaner: make the folder, start what the owner asks for, clean up once the owner is gone."""
    _become_subreaper()
    signal.signal(signal.SIGCHLD, _reap)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    os.set_inheritable(pipe_fd, False)  # noqa: FBT003 - the only way to call it
    pipe: Connection[Any, Any] = Connection(pipe_fd)
    folder = None
    # EOFError and OSError are the two faces of an owner that is gone: that is what this process waits for.
    with suppress(EOFError, OSError):
        try:
            folder = _make_folder(pipe)
            while folder:
                pipe.send(_start(*pipe.recv()))
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            _end_descendants()
            if folder:
                shutil.rmtree(folder, ignore_errors=True)


def _become_subreaper() -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def _make_folder(pipe: Connection[Any, Any]) -> str | None:
    """Make the folder the owner names, or a temporary one, and tell the owner; None if that failed."""
    wanted: str | None = pipe.recv()
    try:
        folder = wanted or tempfile.mkdtemp(prefix="salt-exporter-")
        Path(folder).mkdir(mode=0o700, exist_ok=True)
        if any(Path(folder).iterdir()):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), folder)  # noqa: TRY301 - sent like the others
    except OSError as error:
        pipe.send(error)
        return None
    pipe.send(folder)
    return folder


def _start(argv: list[str], env: dict[str, str], stdout: str, stderr: str) -> str | OSError:
    """Start a program in a session of its own; return its process id, or the error to send."""
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, stdout, append, 0o600),
        (os.POSIX_SPAWN_OPEN, 2, stderr, append, 0o600),
    ]
    try:
        return str(os.posix_spawnp(argv[0], argv, env, file_actions=files, setsid=True))
    except OSError as error:
        return error


def _reap(_signal: int = 0, _frame: FrameType | None = None) -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _end_descendants() -> None:
    """Send SIGTERM once, then SIGKILL to what remains, until nothing is left or nothing helps."""
    start = time.monotonic()
    _signal_descendants(signal.SIGTERM)
    while _descendants(os.getpid()) and time.monotonic() < start + _KILL_SECONDS:
        if time.monotonic() > start + _TERM_SECONDS:
            _signal_descendants(signal.SIGKILL)
        time.sleep(0.05)
        _reap()


def _signal_descendants(signal_number: int) -> None:
    for process in _descendants(os.getpid()):
        with suppress(psutil.Error):
            process.send_signal(signal_number)
