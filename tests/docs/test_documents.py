"""What can be said about the documents' commands without running them."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Final

import pytest
import yaml

from salt_exporter.cli import parser
from tests.docs.calls import calls, unknown_flags
from tests.docs.commands import ROOT, anchors, blocks, commands, complaint, documents, inline
from tests.docs.exceptions import EXEMPTIONS, exemption
from tests.docs.scenes import PLACES, SCENES, place
from tests.docs.site import MACHINES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.docs.commands import Block, Command
    from tests.docs.exceptions import Exemption

# Languages of fences whose text is no command. Whoever shows a command uses `sh` or, with its output, `console`.
_NO_COMMANDS: Final = {"yaml", "json", "ini", "text", "promql", "dockerfile"}
# Whose command lines are looked at where they stand in the text.
_PROGRAMS: Final = (
    *("salt-exporter", "salt", "salt-run", "salt-key", "salt-call", "ss", "ps", "curl", "promtool", "amtool"),
    *("systemctl", "journalctl", "systemd-analyze"),
)
_NOT_RUN: Final = [command for command in commands() if exemption(command)] + list(inline(_PROGRAMS))
_YAML: Final = [block for block in blocks() if block.language == "yaml"]


def test_every_fence_says_what_it_is() -> None:
    """A fence is a script, a session, or in a language that is known to hold no command."""
    languages = {f"{block.document}:{block.line}": block.language for block in blocks()}
    assert {} == {where: name for where, name in languages.items() if name not in _NO_COMMANDS | {"sh", "console"}}


@pytest.mark.parametrize("block", _YAML, ids=lambda block: f"{block.document}:{block.line}")
def test_yaml_can_be_read(block: Block) -> None:
    """An example in YAML is YAML."""
    assert list(yaml.safe_load_all(block.body)) not in ([], [None])


@pytest.mark.parametrize("command", commands(), ids=lambda command: command.name)
def test_the_shell_understands_it(command: Command) -> None:
    """A command is well-formed, and the machine that its prompt names is one of the site."""
    assert "" == complaint(command.text)
    assert command.machine in MACHINES


@pytest.mark.parametrize("exempt", EXEMPTIONS, ids=lambda exempt: exempt.pattern[:40])
def test_no_exemption_is_left_over(exempt: Exemption) -> None:
    """Each exemption is the one that covers some command, and the test that it names is there."""
    assert exempt in [exemption(command) for command in commands()]
    assert (ROOT / exempt.instead).exists()


def test_no_place_is_left_over() -> None:
    """Each place with a scene of its own has commands, and each scene but the ordinary one has a place."""
    assert set(PLACES) == {place(command) for command in commands()} - {""}
    assert {scene.name for scene in SCENES} - set(PLACES.values()) == {"ordinary"}


@pytest.mark.parametrize("command", _NOT_RUN, ids=lambda command: f"{command.name} {command.text[:40]}")
def test_flags_exist(command: Command) -> None:
    """What is not run uses at least flags that these programs say they have, where they are installed."""
    assert "" == complaint(re.sub("…|<[^>]*>", "x", command.text))
    for program, arguments in calls(command.text):
        if program.endswith("salt-exporter") and arguments not in (["--version"], ["--help"]):
            parser().parse_args(arguments)
        elif program in _PROGRAMS and shutil.which(program):  # no others: who knows what they do with --help
            assert [] == unknown_flags(program, arguments), program


def test_links_lead_somewhere() -> None:
    """Every relative link of every document leads to a file, and to a heading where it names one."""
    assert [] == [broken for document in documents() for broken in _broken_links(document)]


def _broken_links(document: str) -> Iterator[str]:
    here = ROOT / document
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", here.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        there = here.parent / path if path else here
        if not there.exists() or (anchor and anchor not in anchors(there)):
            yield f"{document}: {target}"
