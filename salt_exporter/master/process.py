"""Find the running salt-master: its Python and its config dir; decide whether that Python may be trusted."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

from salt_exporter.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DEFAULT_CONFIG_DIR: Final = Path("/etc/salt")  # salt/syspaths.py, CONFIG_DIR
_PROGRAM: Final = "salt-master"
_FLAG: Final = "--config-dir"
_SHORT_FLAG: Final = re.compile(r"-d*c(.*)")  # -d: as a daemon


@dataclass(frozen=True, slots=True)
class MasterProcess:
    """The oldest process of a running master."""

    pid: int
    started: float  # Unix seconds
    uid: int
    gid: int
    python: Path  # as it was started: in a virtualenv, the virtualenv's
    config_dir: Path


def require_same_network(process: MasterProcess) -> None:
    """Raise SourceError if a master's sockets are not ours to see: the kernel shows each network namespace its own.

    Where we may not look (ptrace(2), as for descriptors) nothing is raised.
    """
    try:
        same = Path(f"/proc/{process.pid}/ns/net").stat().st_ino == Path("/proc/self/ns/net").stat().st_ino
    except OSError:
        return
    if not same:
        raise SourceError(
            f"the salt-master (process {process.pid}) is in another network namespace, whose sockets cannot be seen "
            "from here: start the exporter in the master's (in a container, share its network)"
        )


def running_masters() -> list[MasterProcess]:
    """Return the masters that run on this machine, one for each config dir: its oldest process.

    Those of root and of our own user come first: nobody else can put a process of his in front of them. Raises
    SourceError.
    """
    found: dict[Path, MasterProcess] = {}
    ours = (0, os.geteuid())
    for process in sorted(_processes(), key=lambda process: (process.uid not in ours, process.started)):
        found.setdefault(process.config_dir, process)
    return list(found.values())


def _processes() -> Iterator[MasterProcess]:
    try:
        pids = psutil.pids()
    except OSError as error:  # out of file descriptors, or /proc is not there
        raise SourceError(f"cannot look at the running processes ({error.strerror})") from error
    for pid in pids:
        try:
            if _PROGRAM.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes():
                continue
            process = psutil.Process(pid)
            words = process.cmdline()
            program = _program(words)
            if program:
                yield MasterProcess(
                    pid=pid,
                    started=process.create_time(),
                    uid=process.uids().effective,
                    gid=process.gids().effective,
                    python=Path(words[0]),
                    config_dir=_absolute(config_dir_of(words[program + 1 :]), process),
                )
        except (OSError, psutil.Error):  # it ended meanwhile
            continue


def _program(words: Sequence[str]) -> int:
    """Return where `…/salt-master` stands in `<python> [option…] …/salt-master …`, 0 if this is no master.

    Salt keeps these words in front when it names its processes (`appendproctitle`, salt/utils/process.py); only
    EventPublisher drops them, from 3007 on.
    """
    if not words or not Path(words[0]).is_absolute() or not Path(words[0]).name.startswith("python"):
        return 0
    for position, word in enumerate(words[1:4], 1):
        if Path(word).name == _PROGRAM:
            return position
        if not word.startswith("-"):
            return 0
    return 0


def config_dir_of(arguments: Sequence[str]) -> Path:
    """Return the config dir that a master with these arguments uses (salt/utils/parsers.py, ConfigDirMixIn).

    Spelled as optparse takes it: long flags may be cut short, short ones stand together, and the last one counts.
    """
    found = str(DEFAULT_CONFIG_DIR)
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        short = _SHORT_FLAG.fullmatch(word)
        if len(name) > len("--") and _FLAG.startswith(name):
            found = value if equals else next(words, found)
        elif short:
            found = short[1] or next(words, found)
    return Path(os.path.normpath(found))


def _absolute(config_dir: Path, process: psutil.Process) -> Path:
    """Complete a config dir that is relative to where the master was started."""
    return config_dir if config_dir.is_absolute() else Path(os.path.normpath(process.cwd() / config_dir))


def distrust(executable: Path) -> str:
    """Return why an executable that another process names must not be run by us, "" if it may.

    It, every link on the way to it and every directory above must belong to root or to us, and none of them may be
    open to everybody's writing: any user can start a process that calls itself salt-master.
    """
    looked_at: set[Path] = set()
    ahead = [executable]
    while ahead:
        path = ahead.pop()
        for part in (path, *path.parents):
            if part in looked_at:
                continue
            looked_at.add(part)
            try:
                status = part.lstat()
                if stat.S_ISLNK(status.st_mode):
                    ahead.append(part.parent / part.readlink())
            except OSError as error:
                return f"{part}: {error.strerror}"
            if status.st_uid not in (0, os.geteuid()):
                return f"{part} belongs to uid {status.st_uid}, neither root nor the exporter's user"
            open_to_all = status.st_mode & stat.S_IWOTH and not stat.S_ISLNK(status.st_mode)
            if open_to_all and not status.st_mode & stat.S_ISVTX:
                return f"{part} may be written by everybody"
    return ""
