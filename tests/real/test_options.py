"""The table of options, against the sources of every installed Salt."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from salt_exporter.master.options import OPTIONS, Option

if TYPE_CHECKING:
    from tests.real.conftest import SaltLine

pytestmark = pytest.mark.real

# Where the name stands in code that no master of the line runs.
_DEAD_CODE = {
    # The classes of transport/ipc.py are instantiated nowhere but in the unused EventPublisher of utils/event.py.
    ("3007", "ipc_write_buffer"): {"transport/ipc.py"},
}


_NAMES = {option.name for option in OPTIONS}
_QUOTED = re.compile(r"""["'](\w+)["']""")


@pytest.fixture(scope="module")
def readers(salt_line: SaltLine) -> dict[str, set[str]]:
    """Return the files of that Salt that name an option as a string, by option, its table of defaults left out."""
    program = "import salt, pathlib; print(pathlib.Path(salt.__file__).parent)"
    where = subprocess.run([salt_line.programs.python, "-I", "-c", program], check=True, capture_output=True, text=True)
    package = Path(where.stdout.strip())
    found: dict[str, set[str]] = {name: set() for name in _NAMES}
    for file in package.rglob("*.py"):
        relative = file.relative_to(package)
        if relative.parts[0] != "config":
            for name in _NAMES.intersection(_QUOTED.findall(file.read_text(encoding="utf-8", errors="replace"))):
                found[name].add(str(relative))
    return found


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_read_by_agrees_with_the_source(salt_line: SaltLine, readers: dict[str, set[str]], option: Option) -> None:
    """An option is read by a line if and only if its name stands in that line's code, the table of defaults apart."""
    living = readers[option.name] - _DEAD_CODE.get((salt_line.name, option.name), set())
    assert bool(living) is (int(salt_line.name) in option.read_by), sorted(living)
