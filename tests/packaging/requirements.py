"""The pins of what users install: the part of constraints.txt that the exporter needs, without the tests' tools.

`python -m tests.packaging.requirements` writes them, and what else is shipped in two places, anew.
"""

from __future__ import annotations

import re
from importlib.metadata import distribution
from pathlib import Path
from typing import Final

import tomllib
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).parents[2]
REQUIREMENTS: Final = ROOT / "deploy/requirements.txt"
_FORMULA: Final = ROOT / "deploy/salt/salt-exporter/files"
# Copy → original: the folder of a Salt state has to be whole wherever it is taken to.
COPIES: Final = {
    _FORMULA / "requirements.txt": REQUIREMENTS,
    _FORMULA / "salt-exporter.service": ROOT / "deploy/systemd/salt-exporter.service",
}

_HEAD: Final = """\
# Everything the exporter needs, Salt included, in versions that are tested together:
#
#   pip install --no-deps --requirement requirements.txt salt-exporter
#
# timelib, which Salt asks for and runs without, is left out: it has no wheel and would take a C compiler.
# Written by `python -m tests.packaging.requirements` from constraints.txt.
"""
_LEFT_OUT: Final = "timelib"


def requirements() -> str:
    """Return the text of deploy/requirements.txt, by the metadata of what is installed beside the tests."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    needed = _needed()
    pins = [line for line in lines if canonicalize_name(re.split("[=#]", line)[0]) in needed]
    assert len(needed) == len(pins), f"constraints.txt lacks some of {sorted(needed)}"
    return _HEAD + "".join(f"{pin}\n" for pin in pins)


def _needed() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ahead = [Requirement(text) for text in project["dependencies"]]
    seen: set[tuple[str, str]] = set()
    while ahead:
        wanted = ahead.pop()
        name = canonicalize_name(wanted.name)
        if name == _LEFT_OUT:
            continue
        for extra in ("", *wanted.extras):
            if (name, extra) not in seen:
                seen.add((name, extra))
                ahead += _requirements_of(name, extra)
    return {name for name, _extra in seen}


def _requirements_of(name: str, extra: str) -> list[Requirement]:
    found = [Requirement(text) for text in distribution(name).requires or []]
    return [wanted for wanted in found if wanted.marker is None or wanted.marker.evaluate({"extra": extra})]


if __name__ == "__main__":
    REQUIREMENTS.write_text(requirements())
    for copy, original in COPIES.items():
        copy.write_text(original.read_text())
