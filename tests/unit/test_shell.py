"""What the shell and `man` get: the manual page, and completion in a real bash."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from salt_exporter import completion, manual
from salt_exporter.config import COLLECTORS, declared, environment_name
from tests.unit.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


# --- the manual page ---


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed (Debian's package groff-base)")
def test_manual_page_renders_without_warnings() -> None:
    """Groff finds nothing to complain about, and the page shows what was meant to be shown."""
    groff = ["groff", "-man", "-Tutf8", "-ww", "-P-c", "-k", "-rLL=100n", str(ROOT / "docs/salt-exporter.1")]

    done = subprocess.run(groff, capture_output=True, text=True, check=True)

    page = re.sub(r".\x08", "", done.stdout)
    assert done.stderr == ""
    headings = re.findall(r"^(?:\x1b\S*)?([A-Z ]+)$", page, re.MULTILINE)
    assert ["NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "OPTIONS", "SETTINGS", "EXIT STATUS"] == headings[:7]
    assert "salt-exporter - find, measure and explain lost messages of a Salt master" in page
    assert [] == [letters for letters in ("\\", "\u2010", "**") if letters in page]


def test_manual_page_names_every_setting_and_command() -> None:
    """Nothing that the command line takes is left out."""
    page = manual.page().replace("\\-", "-")

    settings = [item.metadata["name"] for item in declared()]
    assert [] == [name for name in settings if f"\\fB--{name}\\fR" not in page or environment_name(name) not in page]
    assert [] == [name for name in COLLECTORS if f"\\fB--no-collector.{name}\\fR" not in page]
    commands = ("serve", "check", "minions", "losses", "watch", "demo")
    assert [] == [name for name in commands if f"\n.TP\n\\fB{name}\\fR\n" not in page]
    assert [] == [name for name in ("--absent", "--json", "--since", "--once") if f"\\fB{name}\\fR" not in page]


@pytest.mark.parametrize(
    ("text", "roff"),
    [("a-b", "a\\-b"), (".TH x", "\\&.TH x"), ("C:\\x", "C:\\ex"), ("it's `so`", "it\\(aqs \\(gaso\\(ga")],
)
def test_text_is_no_roff(text: str, roff: str) -> None:
    """What a help text holds cannot be taken for a request or an escape."""
    assert roff == manual._text(text)


# --- completion ---


@pytest.fixture(scope="module")
def bash() -> Iterator[Terminal]:
    """Yield a bash that has read the completion, and knows a program of that name."""
    with closing(Terminal(["bash", "--norc", "--noprofile", "-i"], width=120, height=40)) as terminal:
        terminal.press("PS1='> '; bind 'set enable-bracketed-paste off'; salt-exporter() { :; }\n")
        terminal.press(f"source {ROOT / 'deploy/completion/salt-exporter'}; cd {ROOT}; clear; echo re''ady\n")
        terminal.wait("^ready$")
        yield terminal


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("lo", "losses"),
        ("wa", "watch"),
        ("minions --abs", "minions --absent"),
        ("--web.listen", "--web.listen-address"),
        ("check --no-collector.ev", "check --no-collector.eventbus"),
        ("--log.format lo", "--log.format logfmt"),
        ("serve --log.level wa", "serve --log.level warning"),
        ("losses --cause publisher_d", "losses --cause publisher_drop"),
        ("--config.file pyproj", "--config.file pyproject.toml"),
        ("check --salt.config-dir salt_exp", "check --salt.config-dir salt_exporter/"),
    ],
)
def test_bash_completes(typed: str, completed: str, bash: Terminal) -> None:
    """A tab completes commands, flags, their values, files and folders."""
    bash.press("\x15", f"salt-exporter {typed}", "\t")

    bash.wait(rf"^> salt-exporter {re.escape(completed)} ?$")


def test_bash_lists_what_there_is(bash: Terminal) -> None:
    """Two tabs show the choices."""
    bash.press("\x15", "salt-exporter serve --log.level ", "\t", "\t")

    bash.wait(r"^debug +error +info +warning")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_can_read_theirs(shell: str) -> None:
    """The shells that are installed find no error in their files."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    file = ROOT / "deploy/completion" / completion.SHELLS[shell]

    done = subprocess.run([shell, "-n", file], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def test_program_runs_without_what_writes_the_completions() -> None:
    """Shtab is for whoever develops: neither the command line nor a command needs it."""
    program = "import sys; sys.modules['shtab'] = None; from salt_exporter.cli import main; sys.exit(main())"
    argv = [sys.executable, "-c", program, "--config.check", "--config.file=/dev/null"]

    assert subprocess.run(argv, check=False, capture_output=True).returncode == 0
