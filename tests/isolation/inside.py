"""The inside of a place (place.py): process 1 of its namespaces, which furnishes it and has pytest run there.

inside.py FOLDER SALT ARGUMENT OF PYTEST...: SALT is the virtualenv that the foreign master is run from.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Final

import psutil
import yaml

from tests.isolation.place import FOREIGN_CONFIG, FOREIGN_SALT, PLANTED, PORTS

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_BIND_ALL: Final = 0x1000 | 0x4000  # linux/mount.h: MS_BIND, MS_REC
_SALT_PORTS: Final = {4505, 4506}
# The folder is the configuration directory for the master alone: all others see the poisoned one.
_START_MASTER: Final = 'mount --bind "$0" "$1" && exec "$2/bin/python3" "$2/bin/salt-master" -c "$1"'


def _mount(source: Path | str, target: Path, flags: int = _BIND_ALL, kind: str = "none") -> None:
    arguments = (os.fsencode(source), os.fsencode(target), kind.encode(), flags, None)
    if _LIBC.mount(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"cannot mount {source}", str(target))


def _plant(folder: Path, poison: Path, before: Path) -> None:
    """Put a file system of its own in place of a folder: what was in it, and the poison."""
    before.mkdir()
    _mount(folder, before)
    _mount("planted", folder, 0, "tmpfs")
    held = {path.name: path for path in before.iterdir()}
    held |= {path.name: path for path in poison.iterdir() if not _leads_to_planted(folder / path.name)}
    for name, path in held.items():
        target = folder / name
        if path.is_symlink():
            target.symlink_to(path.readlink())
        elif path.exists():
            target.mkdir() if path.is_dir() else target.touch()
            _mount(path, target)


def _leads_to_planted(path: Path) -> bool:
    return any(Path(folder).is_relative_to(path) for folder in PLANTED)


class _Master:
    """A foreign master, called as one of this machine would be: with the default config dir, from outside of here."""

    def __init__(self, folder: Path) -> None:
        self._home = folder / "foreign"
        config_dir = self._home / "etc"
        config_dir.mkdir(parents=True)
        places = {"pki_dir": "pki", "cachedir": "cache", "sock_dir": "run", "pidfile": "pid", "log_file": "log"}
        options: dict[str, object] = {option: str(self._home / name) for option, name in places.items()}
        nothing: dict[str, list[str]] = {"base": []}
        options |= {"root_dir": str(self._home), "user": "root", "worker_threads": 1}
        options |= {"file_roots": nothing, "pillar_roots": nothing}
        (config_dir / "master").write_text(yaml.safe_dump(options))
        own = ["unshare", "--mount", "--propagation=private", "sh", "-c", _START_MASTER]
        with (folder / "master.log").open("wb") as log:
            self._process = subprocess.Popen(
                [*own, str(config_dir), str(FOREIGN_CONFIG), FOREIGN_SALT], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 60
        while not self._listens():
            said = (folder / "master.log").read_text(errors="replace")
            assert time.monotonic() < deadline, f"the foreign master does not start\n{said}"
            time.sleep(0.1)

    def complaint(self) -> str:
        """Say what has been done to it; nothing if it was left alone."""
        if not self._listens():
            return "does not run any more"
        met = [path for name in ("pki/minions*/*", "cache/jobs/*/*") for path in sorted(self._home.glob(name))]
        return f"has met tests: {', '.join(map(str, met))}" if met else ""

    def _listens(self) -> bool:
        found = psutil.net_connections("tcp")
        listening = {one.laddr[1] for one in found if one.laddr and one.status == psutil.CONN_LISTEN}
        return psutil.pid_exists(self._process.pid) and listening >= _SALT_PORTS


def _take_ports(visitors: list[str]) -> None:
    """Listen on ports of others, and note who comes."""

    def serve(server: socket.socket) -> None:
        while True:
            connection, (_, port, *_) = server.accept()
            visitors.append(f"connected to {server.getsockname()[1]} from {port}")
            connection.close()

    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    for port in PORTS:
        server = socket.create_server(("", port), family=family, dualstack_ipv6=both)
        threading.Thread(target=serve, args=(server,), daemon=True).start()


def _run(argv: list[str]) -> int:
    """Run a program to its end; meanwhile take leave of orphans, as process 1 has to."""
    pid = subprocess.Popen(argv).pid
    while True:
        ended, status = os.wait()
        if ended == pid:
            return os.waitstatus_to_exitcode(status)


def main(folder: Path, salt: Path, *arguments: str) -> int:
    """Furnish the place, run pytest, write a report, and return the exit status of pytest."""
    here = Path.cwd()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    namespaces = Path("/run/netns")  # of which the machine's own are none of our business
    namespaces.mkdir(exist_ok=True)
    _mount("netns", namespaces, 0, "tmpfs")
    for number, planted in enumerate(PLANTED):
        _plant(Path(planted), folder / "poison" / planted[1:], folder / f"before-{number}")
    _mount(salt, Path(FOREIGN_SALT))
    os.chdir(here)
    visitors: list[str] = []
    _take_ports(visitors)
    master = _Master(folder)
    status = _run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments])
    (folder / "report").write_text(json.dumps({"visitors": visitors, "foreign_master": master.complaint()}))
    return status


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]))
