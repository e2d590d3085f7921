"""The newest line of Salt, for what is too expensive for each line, or the same on all.

Tests that take it are not among those of a line, which run one after another: they run beside them (tests/conftest.py).
"""

from __future__ import annotations

from typing import Final

import pytest

from salt_exporter.demo.programs import SaltPrograms
from tests.real.conftest import _installed as installed

# When this is read the variable that may name them is still there (tests/conftest.py).
INSTALLED: Final = installed()
NEWEST: Final = "3008"
NEWEST_INSTALLED: Final = max(INSTALLED, default="")


def newest_line_only(why: str) -> pytest.MarkDecorator:
    """Mark a test that runs with the newest installed line alone, as what it shows does not depend on the line."""
    return pytest.mark.newest_line_only(why)


def newest_salt() -> SaltPrograms:
    """Return the programs of the newest line; skip the test if it is not installed."""
    if NEWEST not in INSTALLED:
        pytest.skip(f"no Salt {NEWEST}")
    return SaltPrograms(INSTALLED[NEWEST])
