"""What is true in a place (place.py) and hardly anywhere else. Not collected by itself: test_isolation.py runs it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.isolation.place import FOREIGN_CONFIG

_SETUP = Path(__file__).parents[2] / "setup"


def test_setup_finds_the_foreign_master() -> None:
    """What `./setup run` would start the exporter beside is the master of the machine, by its config dir."""
    asked = "$(sed -n '/^local_master() {/,/^}/p' \"$0\")\nlocal_master"
    script = f'cd "${{0%/*}}" && eval "{asked}"'
    done = subprocess.run(["sh", "-c", script, str(_SETUP)], capture_output=True, text=True, check=True)
    assert f"{FOREIGN_CONFIG}\n" == done.stdout
