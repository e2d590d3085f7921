"""`salt-exporter watch` in a terminal beside a real master: jobs as they pass, a filter, a restart, and its end."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.unit.terminal import Terminal

if TYPE_CHECKING:
    from pathlib import Path

    from salt_exporter.demo.lab import Lab
    from tests.real.conftest import SaltLine
    from tests.real.namespaces import Network

pytestmark = pytest.mark.real


def test_watching_a_real_master(lab: Lab, network: Network, salt_line: SaltLine, tmp_path: Path) -> None:
    """Events of real jobs pass, are filtered and opened; the path has its queues; a restart is outlived; q ends it."""
    if salt_line.name != "3008":
        pytest.skip("the bus of each line is read by the same code as the daemon's, which is tested with all of them")
    argv = [*network.prefix("master"), sys.executable, "-m", "salt_exporter", "watch"]
    argv += ["--config.file=/dev/null", f"--salt.config-dir={lab.config_dir}", f"--state.directory={tmp_path}"]
    with closing(Terminal(argv)) as terminal:
        terminal.wait(r" connected")
        lab.salt("-L", "web1,web2", "test.ping")
        terminal.wait(r"salt/job/…/ret/… +web1 +test\.ping +\d{20} ok")
        terminal.wait(r"salt/job/…/new +test\.ping +\d{20} →2")
        terminal.wait(r"Present \d+ of 6")  # ghost has a key, and nothing else
        terminal.wait(r"● Port 4506 +░+ Accept queue 0 of [\d,]+")
        terminal.wait(r"Publisher +░+ Longest queue 0 messages, 0% of pub_hwm")
        terminal.wait(r"Workers +Harmless request answered")

        terminal.press("/", "minion:web2 fun:test.*", "enter")
        terminal.wait(r"events · 1 match$")
        terminal.press("enter")
        assert "return: True" in terminal.wait(r"id: web2")
        terminal.press("escape", "escape")

        lab.restart("master")
        terminal.wait(r"^\d\d:\d\d:\d\d not connected any more: the event bus /")
        lab.wait_master_ready()
        terminal.wait("connected to the event bus again")
        lab.wait_minions(["web1"])
        terminal.wait(r"salt/job/…/ret/… +web1 +test\.ping +\d{20} ok")

        terminal.press("q")
        assert terminal.end() == 0
    lab.wait_minions(["web1", "web2", "dual", "six", "cut"])
