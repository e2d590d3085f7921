"""A private place in which tests meet what other machines have: a foreign master, its files, and taken ports.

    python -m tests.isolation.place ARGUMENT OF PYTEST...

runs tests there and tells which of the foreign files they opened or changed. It is made of namespaces for mounts,
processes and the network, so the machine itself does not see any of it. Needs root.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from contextlib import closing, suppress
from ctypes import CDLL, get_errno
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tests.real.newest import INSTALLED, NEWEST_INSTALLED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ROOT: Final = Path(__file__).parents[2]

# What an exporter, a master and a Prometheus of this machine would own, and what no test can make sense of.
_POISON: Final[Mapping[str, bytes]] = {
    "/etc/salt/master": b"publish_port: [poison\n",
    "/etc/salt/master.d/poison.conf": b"\tpoison",
    "/etc/salt/minion": b"master: [poison\n",
    "/etc/salt/pki/master/minions/poison": b"poison",
    "/etc/salt/pki/master/master.pem": b"poison",
    "/etc/salt-exporter/config.yml": b"poison.setting: 1\n",
    "/etc/prometheus/prometheus.yml": b"poison: [\n",
    "/etc/systemd/system/salt-exporter.service.d/poison.conf": b"[Service]\nUser=poison\n",
    "/etc/systemd/system/salt-master.service": b"[Service]\nExecStart=/bin/false\n",
    "/home/poison/.bashrc": b"exit 9\n",
    "/opt/salt-exporter/bin/salt-exporter": b"#!/bin/sh\nexit 9\n",
    "/srv/pillar/top.sls": b"poison: [\n",
    "/srv/salt/top.sls": b"poison: [\n",
    "/usr/local/bin/salt": b"#!/bin/sh\nexit 9\n",
    "/usr/local/bin/salt-exporter": b"#!/bin/sh\nexit 9\n",
    "/var/cache/salt/master/jobs/00/poison/jid": b"poison",
    "/var/cache/salt/master/minions/poison/data.p": b"\xc1poison",
    "/var/lib/prometheus/lock": b"poison",
    "/var/lib/salt-exporter/journal.sqlite": b"poison, not a database\n" * 99,
}
# Each gets a file system of its own, with all that it holds and the poison.
PLANTED: Final = (
    *("/etc", "/etc/systemd/system", "/home", "/opt", "/srv", "/usr/local/bin", "/var/cache", "/var/lib"),
)
FOREIGN_SALT: Final = "/opt/saltstack/salt"
FOREIGN_CONFIG: Final = Path("/etc/salt")
PORTS: Final = (4507, 9090, 9093)  # those of an exporter, of Prometheus and of Alertmanager

# linux/inotify.h
_EVENTS: Final = {
    0x002: "modified",
    0x004: "changed mode or owner of",
    0x020: "opened",
    0x040: "moved",
    0x080: "moved",
    0x100: "created",
    0x200: "deleted",
}
_OVERFLOW: Final = 0x4000
_EVENT: Final = struct.Struct("iIII")


class Outcome(NamedTuple):
    """What became of tests that were run in the place."""

    status: int  # of pytest
    output: str
    touched: list[str]  # what was done to foreign files, such as "opened /etc/salt/master"
    visitors: list[str]  # who connected to a taken port
    foreign_master: str  # empty if it was left alone, else what has become of it


class Watch:
    """Tells what happens to the files of folders (inotify(7))."""

    def __init__(self, folders: Mapping[Path, str]) -> None:
        """Take by which name to call each folder."""
        libc = CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        below = {Path(path): name for folder, name in folders.items() for path, name in _tree(folder, name)}
        self._names: dict[int, str] = {}
        for path, name in below.items():
            watched = libc.inotify_add_watch(self._fd, os.fsencode(path), sum(_EVENTS))
            if watched < 0:
                raise OSError(get_errno(), f"cannot watch {path}")
            self._names[watched] = name

    def close(self) -> None:
        """Watch no longer."""
        os.close(self._fd)

    def found(self) -> list[str]:
        """Return what has happened so far, each once."""
        found: dict[str, None] = {}
        with suppress(BlockingIOError):
            while True:
                found |= dict.fromkeys(self._read())
        return list(found)

    def _read(self) -> Iterator[str]:
        said = os.read(self._fd, 1 << 16)
        while said:
            watched, mask, _, length = _EVENT.unpack_from(said)
            name = os.fsdecode(said[_EVENT.size : _EVENT.size + length].rstrip(b"\0"))
            said = said[_EVENT.size + length :]
            if mask & _OVERFLOW:
                yield "more than can be told"
            yield from (f"{words} {Path(self._names[watched], name)}" for bit, words in _EVENTS.items() if mask & bit)


def _tree(folder: Path, name: str) -> Iterator[tuple[str, str]]:
    yield str(folder), name
    for path, folders, _ in os.walk(folder):
        for below in folders:
            yield str(Path(path, below)), str(Path(name, Path(path, below).relative_to(folder)))


def run(*arguments: str) -> Outcome:
    """Run pytest with these arguments in a new place."""
    folder = Path(tempfile.mkdtemp(prefix="place-"))
    folder.chmod(0o755)  # some tests have a file looked for by another user
    try:
        return _run(folder, arguments)
    finally:
        shutil.rmtree(folder)


def _run(folder: Path, arguments: tuple[str, ...]) -> Outcome:
    poison = folder / "poison"
    for path, content in _POISON.items():
        file = poison / path[1:]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(0o755)
    with closing(Watch({path: f"/{path.relative_to(poison)}" for path in _poisoned(poison)})) as watch:
        _add_foreign_user(poison / "etc")
        (poison / FOREIGN_SALT[1:]).mkdir(parents=True)
        done = _run_inside(folder, arguments)
        touched = watch.found()
    report: dict[str, Any] = {"visitors": [], "foreign_master": "has not been started"}
    if (folder / "report").exists():
        report = json.loads((folder / "report").read_text())
    return Outcome(done.returncode, done.stdout, touched, report["visitors"], report["foreign_master"])


def _run_inside(folder: Path, arguments: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    namespaces = ("--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation=private")
    salt = INSTALLED[NEWEST_INSTALLED].parent.absolute()
    inside = [sys.executable, "-m", "tests.isolation.inside", str(folder), str(salt)]
    return subprocess.run(
        ["unshare", *namespaces, *inside, *arguments],
        cwd=_ROOT,
        env=_environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )


def _poisoned(poison: Path) -> list[Path]:
    """Return what is put into planted folders: files, and folders with all below them."""
    planted = {poison / folder[1:] for folder in PLANTED}
    return sorted(path for folder in planted for path in folder.iterdir() if not _holds(path, planted))


def _holds(path: Path, folders: set[Path]) -> bool:
    return any(folder.is_relative_to(path) for folder in folders)


def _add_foreign_user(etc: Path) -> None:
    for name, line in (("passwd", "salt:x:64501:64501::/opt/saltstack:/bin/false"), ("group", "salt:x:64501:")):
        (etc / name).write_text(Path("/etc", name).read_text() + line + "\n")


def _environment(folder: Path) -> dict[str, str]:
    """Return the environment: without what another pytest has put into it, with a folder for temporary files."""
    (folder / "tmp").mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "SALT_EXPORTER_"))}
    salts = ":".join(f"{line}={programs.absolute()}" for line, programs in INSTALLED.items())
    return kept | {"TMPDIR": str(folder / "tmp"), "SALT_EXPORTER_TEST_SALTS": salts}


if __name__ == "__main__":
    outcome = run(*sys.argv[1:])
    print(outcome.output)  # noqa: T201
    master = outcome.foreign_master and f"the foreign master {outcome.foreign_master}"
    print(*outcome.touched, *outcome.visitors, master, sep="\n")  # noqa: T201
    sys.exit(outcome.status)
