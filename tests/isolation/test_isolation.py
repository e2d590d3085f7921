"""The tests leave the machine alone on which they run, and it does not decide how they end.

A few tests of each kind are run in a place (place.py) that has what they may meet: a foreign master with its files,
settings that nothing can read, and taken ports.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Final

import pytest

from tests.isolation import place
from tests.real.newest import INSTALLED

if TYPE_CHECKING:
    from pathlib import Path

_TESTS: Final = (
    "tests/isolation/foreign.py",
    "tests/docs/test_machine.py",  # where the documents' commands are run
    "tests/packaging/test_healthcheck.py::test_what_is_no_exporter_is_not",
    "tests/real/test_demo.py::test_shows_an_absent_minion_and_leaves_nothing_behind",
    "tests/unit/test_cli.py",
    "tests/unit/test_daemon.py::test_absent_master_fails_only_what_needs_it",
    "tests/unit/test_losses.py",
    "tests/unit/test_process.py",
)

_CARELESS: Final = """
import os, signal, socket
from pathlib import Path

import psutil

def test_careless():
    Path("/var/lib/salt-exporter/journal.sqlite").read_bytes()
    Path("/srv/salt/new").touch()
    socket.create_connection(("127.0.0.1", 4507)).close()
    for process in psutil.process_iter(["cmdline"]):
        if "/etc/salt" in process.info["cmdline"]:
            process.kill()
"""

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root"),
    pytest.mark.skipif(not shutil.which("unshare"), reason="unshare is not installed (Debian's package util-linux)"),
    pytest.mark.skipif(not shutil.which("ip"), reason="ip is not installed (Debian's package iproute2)"),
    pytest.mark.skipif(not INSTALLED, reason="no Salt in .salt/<line>/bin and none named by SALT_EXPORTER_TEST_SALTS"),
]


def test_tests_neither_touch_nor_mind_what_is_on_the_machine() -> None:
    """They pass, and nobody has opened a foreign file, talked to a foreign port, or disturbed the foreign master."""
    outcome = place.run("-q", *_TESTS)

    assert outcome.status == 0, outcome.output
    assert [] == [*outcome.touched, *outcome.visitors]
    assert "" == outcome.foreign_master


def test_what_a_careless_test_does_is_noticed(tmp_path: Path) -> None:
    """Reading or writing a foreign file, connecting to a foreign port, and ending the foreign master are all told."""
    careless = tmp_path / "test_careless.py"
    careless.write_text(_CARELESS)

    outcome = place.run("-q", str(careless))

    assert outcome.status == 0, outcome.output
    assert {"opened /var/lib/salt-exporter/journal.sqlite", "created /srv/salt/new"} <= set(outcome.touched)
    assert ["4507"] == [visitor.split()[2] for visitor in outcome.visitors]
    assert "does not run any more" == outcome.foreign_master
