"""The newest line of Salt, for what is too expensive for each line, or the same on all.

Tests that take it are not among those of a line, which run one after another: they run beside them (tests/conftest.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from salt_exporter.demo.programs import SaltPrograms
from tests.real.conftest import _installed as installed

if TYPE_CHECKING:
    from tests.real.conftest import SaltLine

# When this is read the variable that may name them is still there (tests/conftest.py).
INSTALLED: Final = installed()
NEWEST: Final = "3008"
NEWEST_INSTALLED: Final = max(INSTALLED, default="")


def only_with_newest(line: SaltLine, why: str) -> None:
    """Skip what needs to run with one line alone, unless this is the newest that is installed."""
    if line.name != NEWEST_INSTALLED:
        pytest.skip(f"runs with Salt {NEWEST_INSTALLED} alone: {why}")


def newest_salt() -> SaltPrograms:
    """Return the programs of the newest line; skip the test if it is not installed."""
    if NEWEST not in INSTALLED:
        pytest.skip(f"no Salt {NEWEST}")
    return SaltPrograms(INSTALLED[NEWEST])
