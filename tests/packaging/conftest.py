"""What the tests of packages share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.packaging.distributions import Distributions, publish

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """Return the sdist and the wheel, built once for all processes of the test run."""
    own = tmp_path_factory.getbasetemp()
    shared: Path = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    return publish(shared / "distributions")
