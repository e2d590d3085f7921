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

# The files of tests/real whose tests share a master, by the fixture that starts it.
_SHARING: Final = {
    "arena": {"causes", "mixed_faults", "return_storm"},
    "lab": {
        "connections",
        "jobs",
        "master",
        "presence",
        "prometheus",
        "queues",
        "request_path",
        "status_page",
        "watch",
    },
}
_LINE: Final = re.compile(r"tests/real/test_(\w+)\.py.*\[(\d{4})[-\]]")
_WITH_MASTER: Final = re.compile(
    r"\d{4} |tests/(real|isolation)/|tests/docs/test_(commands|machine)\.py|tests/packaging/test_image\.py"
)


@pytest.fixture(scope="session", autouse=True)
def _without_variables_of_the_caller() -> None:
    """Keep variables from the programs that tests start: the tests' own, which the exporter refuses, and Python's.

    PYTHONUNBUFFERED hides that a program does not flush; with PYTHONDONTWRITEBYTECODE each start compiles all modules.
    """
    for name in [name for name in os.environ if name.startswith(("SALT_EXPORTER_TEST_", "PYTHON"))]:
        del os.environ[name]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that have a master: those of long files, then those that share one, then single ones."""
    items.sort(
        key=lambda item: (
            item.get_closest_marker("real") is None,
            _LINE.match(item.nodeid) is not None,
            _master_of(item),
        )
    )


def _master_of(item: pytest.Item) -> int:
    fixtures = getattr(item, "fixturenames", ())
    return next((place for place, shared in enumerate(_SHARING) if shared in fixtures), len(_SHARING))


def _unit(nodeid: str) -> str:
    """Return what a test is part of that one process runs from end to end: a file, or what shares a master."""
    match = _LINE.match(nodeid)
    if match is None:
        return nodeid.partition("::")[0]
    name, line = match.groups()
    return f"{line} {next((shared for shared, names in _SHARING.items() if name in names), name)}"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:  # noqa: ANN401 - xdist's own
    """Let one process do what needs no master, and the others first what needs one (`tests/run.py` starts them)."""
    from xdist.scheduler import LoadScopeScheduling

    class _ByMaster(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
        def _split_scope(self, nodeid: str) -> str:
            return _unit(nodeid)

        def _assign_work_unit(self, node: Any) -> None:  # noqa: ANN401 - xdist's own
            without_master = len(self.nodes) > 1 and node.gateway.id == "gw0"
            fitting = [unit for unit in self.workqueue if bool(_WITH_MASTER.match(unit)) != without_master]
            if fitting:
                self.workqueue.move_to_end(fitting[0], last=False)
            elif without_master:
                node.shutdown()
                return
            super()._assign_work_unit(node)

    return _ByMaster(config, log)
