"""What the private Salt is told: the configuration files of its master and of its minions."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# sun_path of unix(7) holds 107 bytes and a zero.
_SOCKET_PATH_BYTES = 107

_MASTER: Mapping[str, object] = {
    "interface": "127.0.0.1",
    "worker_threads": 3,
}

_MINION: Mapping[str, object] = {
    "acceptance_wait_time": 1,  # seconds between attempts to authenticate, 10 by default
    "random_reauth_delay": 1,
    "recon_default": 100,  # milliseconds: a master that restarts has its minions back at once
    "recon_max": 1000,
    "recon_randomize": False,
    "enable_fqdns_grains": False,  # asks the resolver about every address
    "enable_gpu_grains": False,  # runs lspci
    "mine_enabled": False,
    # Jobs in threads. A process for each costs more than our jobs do, and those of 3007 stay for 30 s.
    "multiprocessing": False,
    "enable_legacy_startup_events": False,
}


def living_at(address: str) -> dict[str, object]:
    """Return the options of a minion with an address of its own on a host that it shares with other minions.

    Salt tells who is present by comparing the peers of the publish port with the addresses in the grains.
    It binds the publish connection to `source_address`, but not the request connection, whose `master_uri`
    has no source (`salt/minion.py:338 (3008)`): that one comes from 127.0.0.1.
    """
    return {"source_address": address, "grains": {"ipv4": [address], "ipv6": []}}


class FolderNameError(Exception):
    """The folder's path is so long that Salt cannot make its unix sockets below it."""


def write_master(folder: Path, ports: tuple[int, int], options: Mapping[str, object]) -> Path:
    """Write the master's configuration below `folder` and return its directory.

    `ports` are the publish and the request port; `options` are Salt's and go over ours.
    """
    config_dir = folder / "conf"
    (config_dir / "master.d").mkdir(parents=True)
    publish_port, request_port = ports
    mandatory = {
        "publish_port": publish_port,
        "ret_port": request_port,
        # Only the minions that are started here, and only by the one who started them.
        "autosign_file": str(autosign_file(folder)),
    }
    _write(config_dir / "master", {**_common(folder), **_MASTER, **mandatory, **options})
    autosign_file(folder).touch(mode=0o600)
    return config_dir


def write_minion(
    folder: Path, minion_id: str, ports: tuple[int, int], master: str, options: Mapping[str, object]
) -> Path:
    """Write a minion's configuration below `folder`, have the master accept its key, return its directory."""
    home = folder / "minions" / minion_id
    config_dir = home / "conf"
    config_dir.mkdir(parents=True)
    publish_port, request_port = ports
    mandatory = {
        "id": minion_id,
        "master": master,
        "publish_port": publish_port,
        "master_port": request_port,
    }
    _write(config_dir / "minion", {**_common(home), **_MINION, **mandatory, **options})
    with autosign_file(folder).open("a") as accepted:
        accepted.write(f"{minion_id}\n")
    return config_dir


def autosign_file(folder: Path) -> Path:
    """Return the file of the minion ids whose keys the master accepts."""
    return folder / "conf" / "autosign.conf"


def _common(home: Path) -> dict[str, object]:
    """Return where a daemon keeps its files and as whom it runs. Raises FolderNameError."""
    longest = home / "run" / "minion_event_0123456789_pull.ipc"
    if len(os.fsencode(longest)) > _SOCKET_PATH_BYTES:
        raise FolderNameError(f"{home} is too long for the unix sockets in it: choose a shorter folder, or TMPDIR")
    return {
        "user": pwd.getpwuid(os.geteuid()).pw_name,
        "root_dir": str(home),
        "pki_dir": str(home / "pki"),
        "cachedir": str(home / "cache"),
        "sock_dir": str(home / "run"),
        "pidfile": str(home / "run" / "pid"),
        "file_roots": {"base": [str(home / "srv" / "salt")]},  # root_dir does not apply to these two
        "pillar_roots": {"base": [str(home / "srv" / "pillar")]},
        "log_file": str(home / "log" / "salt.log"),
        "log_level_logfile": "quiet",  # standard output is kept already
    }


def _write(path: Path, options: Mapping[str, object]) -> None:
    path.write_text(yaml.safe_dump(dict(options)))
