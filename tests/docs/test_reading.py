"""How documents are read, and how output is compared with what they show."""

from __future__ import annotations

import pytest

from tests.docs.calls import calls, unknown_flags
from tests.docs.commands import Block, complaint, read
from tests.docs.shape import not_said

_SCRIPT = """\
# a comment alone
docker run \\
    --rm image   # with a comment
cat >file <<'END'
$ not a prompt
END
for name in a b; do
    echo "$name"
done
"""
_SESSION = """\
$ salt-exporter losses | awk '
> {print $3}'
web1
web2$ systemctl is-active salt-minion
inactive
"""


def _texts(language: str, body: str) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(found.machine, found.text, found.output) for found in read(Block("x.md", 7, "", language, body, ()))]


def test_a_script_is_cut_into_commands() -> None:
    """A command has as many lines as the shell needs: continued ones, here-documents, loops."""
    commands = read(Block("x.md", 7, "", "sh", _SCRIPT, ()))
    lines = _SCRIPT.splitlines()
    assert ["\n".join(lines[1:3]), "\n".join(lines[3:6]), "\n".join(lines[6:])] == [found.text for found in commands]
    assert ["x.md:8", "x.md:10", "x.md:13"] == [found.name for found in commands]


def test_a_session_is_cut_into_commands_and_output() -> None:
    """What follows a prompt is a command, on the machine that the prompt names; the rest is its output."""
    expected = [
        ("", "salt-exporter losses | awk '\n{print $3}'", ("web1",)),
        ("web2", "systemctl is-active salt-minion", ("inactive",)),
    ]
    assert expected == _texts("console", _SESSION)


def test_other_languages_have_no_commands() -> None:
    """A fence in another language holds none, whatever it looks like."""
    assert [] == _texts("yaml", "$ rm file\n")


def test_malformed_commands_are_complained_about() -> None:
    """The shell's own complaint is what counts."""
    assert "" == complaint("if true; then echo; fi")
    assert "syntax error" in complaint("if true; then")


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ("  present      2", "  present  117"),
        ("Nov 23 04:57:20 master x[258]: done", "Dec  1 14:00:01 master x[9]: done"),
        (
            "Active: active (running) since Mon 2026-11-23 04:56:47 UTC; 37s ago",
            "… since Tue 2027-01-05 1:2:3 UTC; 2h 5min ago",
        ),
        ("worst queue 0% of pub_hwm", "worst queue 100% of pub_hwm"),
        ("x… last", "x and everything else, last"),
        ("…", "anything"),
        ("253 Tl do_signal_stop", "7 TNl do_signal_stop"),
    ],
)
def test_alike(shown: str, said: str) -> None:
    """Numbers, times, blanks and what is left out may differ."""
    assert [] == not_said([shown], f"another line\n{said.replace('… since', 'Active: active (running) since')}\n")


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ("web1  not present", "web1  present"),
        ('salt_keys{state="pending"} 1.0', 'salt_keys{state="denied"} 1.0'),
        ("3 missing responses: 3 not_connected", "3 missing responses: 3 unknown"),
        ("x… last", "x and everything else"),
    ],
)
def test_not_alike(shown: str, said: str) -> None:
    """Words may not."""
    assert [shown] == not_said([shown], said)


def test_calls_of_a_command_line() -> None:
    """Each program of a pipeline is found, also behind a program that runs it."""
    line = (
        "timeout 30 salt web1 test.ping | grep -c 'a | b' && runuser -u salt -- salt-exporter check  # it's a comment"
    )
    assert [
        ("salt", ["web1", "test.ping"]),
        ("grep", ["-c", "a | b"]),
        ("salt-exporter", ["check"]),
    ] == list(calls(line))


def test_unknown_flags_are_found() -> None:
    """A flag that the help text of a program, or of its subcommand, does not have is told, in bundles too."""
    assert [] == unknown_flags("ss", ["-ltn", "--extended"])
    assert ["--no-such-flag", "-lt?"] == unknown_flags("ss", ["--no-such-flag", "-lt?", "( sport = :4505 )"])
