"""Ask a Python that has Salt for a master's resolved options, in a process of its own."""

from __future__ import annotations

import glob
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from salt_exporter.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from salt_exporter.master.process import MasterProcess

_TIMEOUT: Final = 60.0  # seconds; a busy master's host may be slow
_ENVIRONMENT: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}

_log = logging.getLogger(__name__)

Answer = dict[str, Any]  # what resolve.py prints: version, files, patterns, options


def ask(python: Path, config_dir: Path, names: Sequence[str], master: MasterProcess | None = None) -> Answer:
    """Return the options `names` as resolved by the Salt of `python`. Raises SourceError.

    Isolated from our environment and working directory; as root, with the rights of the master's own user.
    """
    # Most often the answer is remembered, and short commands are to be quick.
    import subprocess  # noqa: PLC0415
    from importlib.resources import files  # noqa: PLC0415

    identity: dict[str, Any] = {}
    if master and os.geteuid() == 0 and master.uid:
        identity = {"user": master.uid, "group": master.gid, "extra_groups": []}
    command = [str(python), "-I", "-c", files(__package__).joinpath("resolve.py").read_text(), str(config_dir), *names]
    try:
        done = subprocess.run(  # noqa: S603 - process.distrust has looked at the executable
            command,
            env=_ENVIRONMENT,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT,
            check=True,
            **identity,
        )
        answer = json.loads(done.stdout.splitlines()[-1])
    except subprocess.CalledProcessError as error:
        reason = _reason((error.stderr or error.stdout).decode(errors="replace"))
        raise SourceError(f"{python} cannot resolve the options in {config_dir}: {reason}") from error
    except subprocess.TimeoutExpired as error:
        raise SourceError(f"{python} did not resolve the options in {config_dir} within {_TIMEOUT:.0f} s") from error
    except (OSError, ValueError, IndexError) as error:
        raise SourceError(f"{python} cannot be run to resolve the options in {config_dir}: {error}") from error
    if not isinstance(answer, dict) or not {"version", "files", "patterns", "options"} <= answer.keys():
        raise SourceError(f"{python} gave no options for {config_dir}")
    return answer


def _reason(output: str) -> str:
    """Return what a failed Salt says last: a log message, of one or more lines, or the end of a traceback."""
    lines = output.strip().splitlines() or ["no output"]
    first = max((number for number, line in enumerate(lines) if line.startswith("[")), default=len(lines) - 1)
    return " ".join(" ".join(lines[first:]).split())[:300]


def watched(answer: Answer) -> list[list[Any]]:
    """Return [path, mtime in ns, size, inode] of every file the answer came from, as they are now.

    New files that the includes match, removed ones, and an upgrade of Salt itself show too.
    """
    paths = {*answer["files"], *(name for pattern in answer["patterns"] for name in glob.glob(pattern))}  # noqa: PTH207
    return [_state(path) for path in sorted(paths)]


def _state(path: str) -> list[Any]:
    try:
        status = Path(path).stat()
    except OSError:
        return [path]
    return [path, status.st_mtime_ns, status.st_size, status.st_ino]


class Memory:
    """Remembers the last answer in a file, so that short commands need not ask again.

    Believed only while every file behind it is unchanged, and only if nobody but us can have written it.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def recall(self, *key: str) -> Answer | None:
        """Return the answer remembered for `key` if it still holds."""
        if self._path is None:
            return None
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_uid != os.geteuid() or status.st_mode & 0o022:
                    return None
                memory = json.load(file)
            answer: Answer = memory["answer"]
            return answer if memory["key"] == list(key) and memory["watched"] == watched(answer) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def remember(self, answer: Answer, *key: str) -> None:
        """Keep the answer for `key`; a directory that cannot be written only costs time later."""
        if self._path is None:
            return
        temporary = self._path.with_suffix(f".{os.getpid()}")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123
                json.dump({"key": key, "answer": answer, "watched": watched(answer)}, file)
            temporary.replace(self._path)
        except OSError as error:
            _log.debug("cannot remember the master's settings in %s: %s", self._path, error)
