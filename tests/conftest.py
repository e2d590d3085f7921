"""Which tests may run side by side: `./setup test` gives them to several processes (pytest-xdist)."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

# These machines are shared: how long an example takes says nothing.
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")

# The tests of these files have masters of their own.
_LINE: Final = re.compile(r"tests/real/test_(?!demo|master_cluster|paging|several_masters|syndic).*\[(\d{4})[-\]]")


@pytest.fixture(scope="session", autouse=True)
def _without_variables_of_the_tests() -> None:
    """Keep the tests' own variables from the exporter, which refuses what is none of its settings."""
    for name in [name for name in os.environ if name.startswith("SALT_EXPORTER_TEST_")]:
        del os.environ[name]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that have a master: they take longest, and mostly wait."""
    items.sort(key=lambda item: item.get_closest_marker("real") is None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:  # noqa: ANN401 - xdist's own
    """Keep together what shares a master: the real tests of one line of Salt, and each other file by itself."""
    from xdist.scheduler import LoadScopeScheduling

    class _ByMaster(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
        def _split_scope(self, nodeid: str) -> str:
            line = _LINE.match(nodeid)
            return line[1] if line else nodeid.partition("::")[0]

    return _ByMaster(config, log)
