"""Real Salts, and what one that is made up says.

Installed lines are those of `SALT_EXPORTER_TEST_SALTS`, else of `.salt/<line>/bin`.

The variable names installations as `line=folder of the programs`, separated by colons (`3006=/x/bin:3007=/y/bin`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from salt_exporter.master.settings import _NAMES

_ROOT = Path(__file__).parents[2]


def _installed() -> dict[str, Path]:
    # Not os.environ: tests/real/conftest.py takes the variable away, for the exporter refuses what is no setting.
    started_with = dict(item.partition("=")[::2] for item in Path("/proc/self/environ").read_text().split("\0"))
    named = started_with.get("SALT_EXPORTER_TEST_SALTS")
    if named is None:
        return {folder.parent.name: folder for folder in sorted(_ROOT.glob(".salt/*/bin"))}
    return {line: Path(folder) for line, _, folder in (item.partition("=") for item in named.split(":") if item)}


SALTS = _installed()  # line → folder of the programs

# For tests with the arguments `line` and `folder`.
every_salt = pytest.mark.parametrize(
    ("line", "folder"),
    [pytest.param(int(line), folder, id=line) for line, folder in SALTS.items()]
    or [pytest.param(0, Path(), id="none", marks=pytest.mark.skip(reason="no Salt in .salt/<line>/bin"))],
)

# What a Salt resolves a plain master's options to, as far as the exporter asks.
RAW: dict[str, Any] = dict.fromkeys(_NAMES) | {
    "id": "here_master",
    "transport": "zeromq",
    "interface": "0.0.0.0",
    "pki_dir": "/pki",
    "cachedir": "/cache",
    "sock_dir": "/run",
    "publish_port": 4505,
    "ret_port": 4506,
    "ipc_mode": "ipc",
    "tcp_master_pub_port": 4512,
    "cache": "localfs",
    "worker_threads": 5,
    "worker_pools_enabled": True,
    "worker_pools": {},
}
