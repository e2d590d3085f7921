"""How seldom the collector looks through all that is old."""

from __future__ import annotations

import subprocess
import sys

_TABLES = """
import gc
from salt_exporter.memory import collect_seldom

def collections():
    before = gc.get_stats()[2]["collections"]
    kept = [[[number] for number in range(20_000)] for _ in range(40)]
    return gc.get_stats()[2]["collections"] - before

often = collections()
collect_seldom()
print(often, collections())
"""


def test_old_objects_are_looked_through_seldom() -> None:
    """Making tables has it done by default, not in the daemon."""
    done = subprocess.run([sys.executable, "-c", _TABLES], check=True, capture_output=True, text=True)
    often, seldom = map(int, done.stdout.split())

    assert often > 1
    assert seldom <= often / 2
