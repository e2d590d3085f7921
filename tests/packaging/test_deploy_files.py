"""What deploy/ holds in two places, or names: pins, copies, examples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from tests.packaging.requirements import COPIES, REQUIREMENTS, ROOT, requirements

if TYPE_CHECKING:
    from pathlib import Path

_STATES = ROOT / "deploy/salt"


def test_pins_are_those_of_the_tests() -> None:
    """deploy/requirements.txt has all that the exporter needs in the versions of constraints.txt, and no test tool."""
    assert requirements() == REQUIREMENTS.read_text()


@pytest.mark.parametrize("copy", COPIES, ids=lambda path: path.name)
def test_copies_are_what_they_are_copied_from(copy: Path) -> None:
    """The folder of the state is whole by itself, and `python -m tests.packaging.requirements` keeps it current."""
    assert COPIES[copy].read_text() == copy.read_text()


def test_the_example_of_a_pillar_names_what_there_is() -> None:
    """The example uses keys that the state knows."""
    example = yaml.safe_load((_STATES / "pillar.example.sls").read_text())
    defaults = yaml.safe_load((_STATES / "salt-exporter/defaults.yaml").read_text())

    assert example.keys() == defaults.keys()
    assert example["salt-exporter"].keys() <= defaults["salt-exporter"].keys()
