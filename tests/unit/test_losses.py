"""`salt-exporter losses`: what the journal holds, for people and for programs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salt_exporter import cli, config, log
from salt_exporter.commands.losses import shown
from salt_exporter.journal import Journal, Loss, plain

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., tuple[int, str, str]]

NOW = time.time()  # when it is collected: a long run may come to these tests half an hour later
OLD = Loss(
    "j1", "web1", "test.ping", "not_connected", "It had no connection.", NOW - 80_000, NOW - 72_000, NOW - 70_000
)
DROPPED = Loss("j2", "database10", "state.apply", "publisher_drop", "3 messages were dropped.", NOW - 100, NOW - 40)
SILENT = Loss("j2", "web1", "state.apply", "minion_silent", "Not heard of since.", None, NOW - 12_000)


@pytest.fixture(autouse=True)
def no_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Leave out what this machine may have configured, and the set-up of the log."""
    monkeypatch.setattr(config, "DEFAULT_FILE", tmp_path / "none.yml")
    for variable in [name for name in os.environ if name.startswith(config.ENVIRONMENT_PREFIX)]:
        monkeypatch.delenv(variable)
    monkeypatch.setattr(log, "set_up", lambda *_arguments: None)


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the command with arguments, and gives exit status, output and errors."""

    def runner(*arguments: str) -> tuple[int, str, str]:
        status = cli.main(["losses", f"--state.directory={tmp_path}", *arguments])
        return status, *capsys.readouterr()

    return runner


def record(folder: Path, *losses: Loss) -> None:
    """Write losses as a daemon does that ends afterwards."""
    journal = Journal(folder, max_age=1e9, max_rows=1000)
    journal.record(losses)
    journal.close()


def wall(seconds: float) -> str:
    """Return a time as people here write it."""
    return f"{datetime.fromtimestamp(seconds).astimezone():%Y-%m-%d %H:%M:%S}"


def test_table_has_a_row_for_each_loss(tmp_path: Path, run: Run) -> None:
    """Newest first, in columns, with cause and evidence; a late response is marked; the sum by cause is beside it."""
    record(tmp_path, OLD, DROPPED, SILENT)
    status, out, err = run()
    late = wall(NOW - 70_000)

    assert [
        "TIME                 MINION      FUNCTION     JID  CAUSE           EVIDENCE",
        f"{wall(NOW - 40)}  database10  state.apply  j2   publisher_drop  3 messages were dropped.",
        f"{wall(NOW - 12_000)}  web1        state.apply  j2   minion_silent   Not heard of since.",
        f"{wall(NOW - 72_000)}  web1        test.ping    j1   not_connected   [recovered {late}] It had no connection.",
    ] == out.splitlines()
    assert "3 missing responses: 1 minion_silent, 1 not_connected, 1 publisher_drop\n" == err
    assert 0 == status


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--since", "10h"], [DROPPED, SILENT]),
        (["--since=2h"], [DROPPED]),
        (["--minion", "web1"], [SILENT, OLD]),
        (["--jid", "j1"], [OLD]),
        (["--cause", "publisher_drop"], [DROPPED]),
        (["--minion", "web1", "--jid", "j2"], [SILENT]),
        (["--minion", "nobody"], []),
        (["--limit", "2"], [DROPPED, SILENT]),
        ([], [DROPPED, SILENT, OLD]),
    ],
)
def test_json_has_what_is_asked_for(arguments: list[str], expected: list[Loss], tmp_path: Path, run: Run) -> None:
    """Each question chooses losses; JSON has all that is known of them, times in Unix seconds."""
    record(tmp_path, OLD, DROPPED, SILENT)
    status, out, err = run("--json", *arguments)

    assert (0, "") == (status, err)
    assert [plain(loss) for loss in expected] == json.loads(out)


def test_plain_loss_has_all_fields() -> None:
    """A loss as JSON has it, for the web too."""
    assert {
        "jid": "j1",
        "minion": "web1",
        "function": "test.ping",
        "cause": "not_connected",
        "evidence": "It had no connection.",
        "published": NOW - 80_000,
        "closed": NOW - 72_000,
        "recovered": NOW - 70_000,
    } == plain(OLD)


def test_limit_is_told(tmp_path: Path, run: Run) -> None:
    """Where there is more than is shown, the sum is of all, and it is said."""
    record(tmp_path, OLD, DROPPED, SILENT)
    status, out, err = run("--limit", "1")

    assert (0, 2) == (status, len(out.splitlines()))
    assert [
        "3 missing responses: 1 minion_silent, 1 not_connected, 1 publisher_drop",
        "these are the newest 1: --limit shows more",
    ] == err.splitlines()


def test_no_loss_is_good_news(tmp_path: Path, run: Run) -> None:
    """An empty journal has no table."""
    record(tmp_path)

    assert (0, "", "0 missing responses\n") == run()
    assert (0, "[]\n", "") == run("--json")


def test_running_daemon_can_be_asked(tmp_path: Path, run: Run) -> None:
    """The command reads the file that the daemon holds open."""
    journal = Journal(tmp_path, max_age=1e9, max_rows=1000)
    try:
        journal.record([SILENT])
        assert journal.flush(5)
        assert [plain(SILENT)] == json.loads(run("--json")[1])
    finally:
        journal.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "journal.sqlite does not exist"),
        (["--cause", "not-connected"], "no cause 'not-connected': .*not_connected"),
    ],
)
def test_what_cannot_be_looked_up_is_one_sentence_and_status_2(
    arguments: list[str], message: str, run: Run, tmp_path: Path
) -> None:
    """Without a journal, or with a cause that does not exist, nothing is printed but the reason."""
    if arguments:
        record(tmp_path, OLD)
    status, out, err = run(*arguments)

    assert (2, "", 1) == (status, out, err.count("\n"))
    assert re.search(message, err)


@pytest.mark.parametrize(
    "arguments", [["--since", "soon"], ["--since", "0"], ["--limit", "0"], ["--limit", "-1"], ["--limit", "9" * 30]]
)
def test_bad_arguments_are_refused(arguments: list[str], run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """A duration or a limit that is none ends with usage and status 2."""
    with pytest.raises(SystemExit) as end:
        run(*arguments)

    assert 2 == end.value.code
    assert f"argument {arguments[0]}: " in capsys.readouterr().err


def test_nothing_from_the_network_steers_the_terminal(tmp_path: Path, run: Run) -> None:
    """Escapes, newlines, right-to-left marks and half characters are written out; letters of all languages stay."""
    hostile = "\x1b[2Jweb\n\u202e\udcff\x00\x9b"
    record(
        tmp_path,
        Loss(hostile, hostile, hostile, hostile, hostile, None, NOW),
        Loss("1", "blåbær", "f", "c", "e", None, NOW - 1),
    )
    status, out, err = run()

    assert 0 == status
    assert r"\x1b[2Jweb\n\u202e\udcff\x00\x9b" in out
    assert "blåbær" in out
    assert 3 == len(out.splitlines())
    assert all(line.isprintable() for line in (out + err).splitlines())
    assert hostile == json.loads(run("--json")[1])[0]["minion"]
    assert run("--json")[1].isascii()


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=())))
def test_shown_text_is_printable(text: str) -> None:
    """Any text can be printed once it is escaped, and printable text is left as it is."""
    assert shown(text).isprintable()
    assert not text.isprintable() or text == shown(text)


@pytest.mark.parametrize("closed", [1e300, float("inf"), 1e12])
def test_absurd_times_are_unknown(closed: float, tmp_path: Path, run: Run) -> None:
    """The time of an event may be anything: the rest of the row is shown all the same."""
    record(tmp_path, Loss("j", "web1", "f", "unknown", "e", None, closed))
    status, out, _err = run()

    assert 0 == status
    assert ["unknown", "web1", "f"] == out.splitlines()[1].split()[:3]


def test_command_loads_no_web_server() -> None:
    """The command answers in the time that reading a file takes."""
    program = (
        "import sys, salt_exporter.cli, salt_exporter.commands.losses\n"
        "print({'tornado', 'zmq', 'prometheus_client', 'psutil'} & set(sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "set()\n" == done.stdout
