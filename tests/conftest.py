"""Which tests may run side by side: `./setup test` gives them to several processes (pytest-xdist)."""

from __future__ import annotations

import os
from typing import Any

import pytest


@pytest.fixture(scope="session", autouse=True)
def _without_variables_of_the_tests() -> None:
    """Keep the tests' own variables from the exporter, which refuses what is none of its settings."""
    for name in [name for name in os.environ if name.startswith("SALT_EXPORTER_TEST_")]:
        del os.environ[name]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep together what shares a master: the real tests of one line of Salt, each other file by itself.

    Those with a master come first: they take longest, and mostly wait.
    """
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    items.sort(key=lambda item: item.get_closest_marker("real") is None)


def _group(item: pytest.Item) -> str:
    """Return the name of the group of tests that one process runs one after another."""
    network = {"network", "arena_network"} & set(getattr(item, "fixturenames", ()))
    if network:
        parameters: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
        return str(parameters.get("salt_line"))
    return item.path.stem
