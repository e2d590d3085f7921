"""Every command of the documents, run on a real site (site.py) as it is written, and its output compared.

A command ends with status 0 unless STATUSES says otherwise, and says at least what the document shows (shape.py).
The commands that are not run are listed in exceptions.py.
"""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import groupby
from typing import TYPE_CHECKING, Final

import pytest

from salt_exporter.demo.cleaner import Cleaner
from tests.docs import machine
from tests.docs.commands import commands
from tests.docs.exceptions import exemption
from tests.docs.scenes import SCENES, scene_of
from tests.docs.shape import not_said
from tests.docs.site import Site
from tests.real.namespaces import Network, delete_leftovers
from tests.real.newest import INSTALLED, NEWEST_INSTALLED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.docs.commands import Command
    from tests.docs.machine import Done
    from tests.docs.scenes import Scene

_AT_ONCE: Final = 4  # documents; the commands of one of them are run in their order
# What is shown may need a moment to come: Prometheus scrapes now and then, and a busy machine is slow.
_ATTEMPTS: Final = 5
_PAUSE: Final = 1.5  # seconds, each time as many more

# Which other ends of a command are no failure.
STATUSES: Final = {
    r"salt-exporter check( +#.*)?$": {0, 1, 2},  # findings
    r"salt web2 test\.ping$": {1},  # does not return
    r"^salt-(run|key) ": {0, 124},  # 3008.3 says all it has to say, and now and then does not end
    r"systemctl (status|is-active) \S+$": {0, 3},  # not active
    r"/-/ready$": {0, 7},  # curl: not listening
}

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(900),
    pytest.mark.skipif(machine.missing() != "", reason=machine.missing()),
    pytest.mark.skipif(not INSTALLED, reason="no Salt in .salt/<line>/bin and none named by SALT_EXPORTER_TEST_SALTS"),
]


class Stage:
    """The site, and what the commands of the present scene said."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._scene: Scene | None = None
        self._said: dict[Command, Done] = {}
        self._seen: dict[tuple[str, str], Done] = {}  # by machine and command line

    def said(self, command: Command) -> Done:
        """Return how a command ended; the first one of a scene has the whole scene played."""
        if command not in self._said:
            self._play(next(scene for scene in SCENES if scene.name == scene_of(command)))
        return self._said[command]

    def _play(self, scene: Scene) -> None:
        if self._scene:
            self._scene.end(self._site)
        scene.begin(self._site)
        self._scene = scene
        self._seen.clear()
        of_documents = groupby(_TO_RUN[scene.name], key=lambda command: command.document)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(self._run, [list(of_document) for _, of_document in of_documents]))

    def _run(self, one_after_the_other: list[Command]) -> None:
        for command in one_after_the_other:
            self._said[command] = self._look(command) if command.output else self._site.run(*_line(command))

    def _look(self, command: Command) -> Done:
        """Run a command whose output is shown until it says that, unless another runbook has just done the same."""
        if (seen := self._seen.get(_line(command))) and not not_said(command.output, seen.output):
            return seen
        for attempt in range(_ATTEMPTS):
            time.sleep(_PAUSE * attempt)
            done = self._seen[_line(command)] = self._site.run(*_line(command))
            if not not_said(command.output, done.output):
                break
        return done


def _line(command: Command) -> tuple[str, str]:
    return command.machine, command.text


def _to_run(scene: Scene) -> list[Command]:
    return [command for command in commands() if scene_of(command) == scene.name and not exemption(command)]


_TO_RUN: Final = {scene.name: _to_run(scene) for scene in SCENES}


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """Yield the site with everything running."""
    delete_leftovers()
    salt = INSTALLED[NEWEST_INSTALLED].parent
    with (
        closing(Network("docs-")) as network,
        closing(Cleaner()) as cleaner,
        closing(Site(cleaner, network, salt)) as site,
    ):
        yield Stage(site)


@pytest.mark.parametrize(
    "command", [command for found in _TO_RUN.values() for command in found], ids=lambda command: command.name
)
def test_a_command_does_what_the_document_shows(stage: Stage, command: Command) -> None:
    """A command ends well, and each line that is shown of its output has its like in what it really says."""
    done = stage.said(command)
    expected = next((statuses for pattern, statuses in STATUSES.items() if re.search(pattern, command.text)), {0})
    assert done.status in expected, f"$ {command.text}\n{done.output}"
    assert [] == not_said(command.output, done.output), f"$ {command.text}\n{done.output}"
