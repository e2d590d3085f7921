"""What is generated from the declarations: committed as it would be generated now, and complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from salt_exporter import docs
from salt_exporter.config import COLLECTORS, declared, environment_name

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", docs.FILES)
def test_generated_file_is_current(name: str) -> None:
    """The committed file is what the declarations give (renew it with `python -m salt_exporter.docs`)."""
    assert docs.FILES[name]() == (ROOT / name).read_text(encoding="utf-8")


def test_files_are_written_where_it_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m salt_exporter.docs FOLDER` writes all of them there."""
    monkeypatch.setattr("sys.argv", ["docs", str(tmp_path)])

    assert docs.main() == 0
    assert {name: content() for name, content in docs.FILES.items()} == {
        str(path.relative_to(tmp_path)): path.read_text(encoding="utf-8")
        for path in tmp_path.rglob("*")
        if path.is_file()
    }


def test_configuration_has_a_row_for_every_setting() -> None:
    """The page tells flag, variable and default of every setting and collector."""
    page = docs.configuration()

    for item in declared():
        name, shown = item.metadata["name"], item.metadata["shown"]
        assert f"| `--{name}` | `{environment_name(name)}` | `{shown}` |" in page
    for name in COLLECTORS:
        assert f"| `--[no-]collector.{name}` | `{environment_name(f'collector.{name}')}` |" in page
