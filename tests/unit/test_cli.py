"""The command line: what becomes of arguments, and how it ends."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import salt_exporter
from salt_exporter import cli, config, log
from salt_exporter.config import COLLECTORS, Config, declared

if TYPE_CHECKING:
    from collections.abc import Callable

SETTINGS = [item.metadata["name"] for item in declared()]


@pytest.fixture(autouse=True)
def no_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Leave out what this machine may have configured, and the set-up of the log."""
    monkeypatch.setattr(config, "DEFAULT_FILE", tmp_path / "none.yml")
    for variable in [name for name in os.environ if name.startswith(config.ENVIRONMENT_PREFIX)]:
        monkeypatch.delenv(variable)
    monkeypatch.setattr(log, "set_up", lambda *_arguments: None)


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[tuple[Any, ...], dict[str, Any]]]:
    """Put a mock in place of every command; return what they are called with. Each returns 7."""
    calls: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def mock(name: str) -> Callable[..., int]:
        def command(*arguments: Any, **options: Any) -> int:  # noqa: ANN401 - anything
            calls[name] = arguments, options
            return 7

        return command

    for name, place in {
        "serve": "salt_exporter.daemon.run",
        "once": "salt_exporter.commands.once.once",
        "check": "salt_exporter.commands.check.check",
        "minions": "salt_exporter.commands.minions.minions",
        "watch": "salt_exporter.watch.command.watch",
        "demo": "salt_exporter.demo.demo.run_demo",
    }.items():
        monkeypatch.setattr(place, mock(name))
    return calls


Called = dict[str, tuple[tuple[Any, ...], dict[str, Any]]]


@pytest.mark.parametrize(
    ("arguments", "command", "options"),
    [
        ([], "serve", {}),
        (["serve"], "serve", {}),
        (["--once"], "once", {}),
        (["check"], "check", {"as_json": False}),
        (["check", "--json"], "check", {"as_json": True}),
        (["minions"], "minions", {"only_absent": False, "as_json": False}),
        (["minions", "--absent", "--json"], "minions", {"only_absent": True, "as_json": True}),
        (["watch"], "watch", {}),
        (["demo"], "demo", {}),
    ],
)
def test_command_is_chosen(arguments: list[str], command: str, options: dict[str, Any], called: Called) -> None:
    """Each command line runs one command with its options, and ends with its exit status; the daemon is the default."""
    assert cli.main(arguments) == 7
    assert [command] == list(called)
    assert options == called[command][1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--log.level", "debug", "check", "--no-collector.jobs"],
        ["check", "--log.level=debug", "--no-collector.jobs"],
        ["--no-collector.jobs", "--log.level=info", "check", "--log.level=debug"],
    ],
)
def test_flags_stand_before_or_behind_the_command(arguments: list[str], called: Called) -> None:
    """A flag counts wherever it stands; of two the later one."""
    cli.main(arguments)

    given: Config = called["check"][0][0]
    assert (given.log_level, given.collectors) == ("debug", frozenset(COLLECTORS) - {"jobs"})


def test_daemon_can_read_its_configuration_again(called: Called, tmp_path: Path) -> None:
    """The daemon gets the configuration and a way to read it anew, with the same flags."""
    file = tmp_path / "c.yml"
    file.write_text("log.level: error")
    cli.main(["--config.file", str(file), "--log.format", "json"])
    given, read = called["serve"][0]
    file.write_text("log.level: debug")

    assert ("error", "json") == (given.log_level, given.log_format)
    assert ("debug", "json") == (read().log_level, read().log_format)


@pytest.mark.parametrize("arguments", [["--web.max-connections", "x"], ["--config.file", "/nowhere.yml"], []])
def test_bad_configuration_is_one_sentence_and_status_2(
    arguments: list[str], called: Called, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be used is said on standard error, and nothing is started."""
    if not arguments:
        monkeypatch.setenv("SALT_EXPORTER_LOG_LEVLE", "x")

    assert cli.main(arguments) == 2
    assert called == {}
    assert re.fullmatch(r"salt-exporter: .+\n", capsys.readouterr().err)


def test_config_check_reads_the_web_configuration_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What would end the daemon at its start is found before."""
    file = tmp_path / "web.yml"
    file.write_text("oops: 1")
    assert cli.main(["--config.check", "--web.config.file", str(file)]) == 2
    assert "oops is unknown here" in capsys.readouterr().err
    file.write_text("basic_auth_users: {}")
    assert cli.main(["--config.check", "--web.config.file", str(file)]) == 0


@pytest.mark.parametrize("command", [[], ["serve"]])
def test_config_check(command: list[str], called: Called, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--config.check` says whether the configuration is good, and starts nothing."""
    file = tmp_path / "c.yml"
    file.write_text("log.level: debug")

    assert cli.main(["--config.check", "--config.file", str(file), *command]) == 0
    assert f"configuration is good ({file})\n" == capsys.readouterr().out
    file.write_text("log.level: loud")
    assert cli.main(["--config.check", "--config.file", str(file), *command]) == 2
    assert called == {}
    assert "log.level: expected one of debug, info, warning, error, got 'loud'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["serv"],
        ["serve", "now"],
        ["--log.levle", "x"],
        ["--log.lev", "info"],
        ["--absent"],
        ["serve", "--json"],
        ["-x"],
    ],
)
def test_unknown_argument_is_refused(arguments: list[str], called: Called, capsys: pytest.CaptureFixture[str]) -> None:
    """A word or flag that does not exist, or is only the beginning of one, ends with usage and status 2."""
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)

    assert end.value.code == 2
    assert called == {}
    assert "usage: salt-exporter" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` names program and version."""
    with pytest.raises(SystemExit) as end:
        cli.main(["--version"])

    assert (0, f"salt-exporter {salt_exporter.__version__}\n") == (end.value.code, capsys.readouterr().out)


@pytest.mark.parametrize("command", [[], ["serve"], ["check"], ["minions"], ["watch"], ["demo"]])
def test_help_shows_every_setting(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` lists every flag, before and behind every command."""
    with pytest.raises(SystemExit) as end:
        cli.main([*command, "--help"])
    shown = capsys.readouterr().out

    assert end.value.code == 0
    flags = [f"--{name}" for name in (*SETTINGS, "config.file")] + [f"--no-collector.{name}" for name in COLLECTORS]
    assert [] == [flag for flag in flags if flag not in shown]


def test_demo_listens_where_it_is_told(called: Called) -> None:
    """The demo takes the number of minions and the address of the page, and has its own address otherwise."""
    cli.main(["demo", "--minions", "6", "--web.listen-address", "127.0.0.1:14899"])
    ((told,), _options) = called["demo"]
    cli.main(["demo"])
    ((untold,), _options) = called["demo"]

    assert (told.minions, told.listen_address) == (6, "127.0.0.1:14899")
    assert told.listen_address != untold.listen_address


@pytest.mark.parametrize("command", [["-m", "salt_exporter"], [str(Path(sys.executable).with_name("salt-exporter"))]])
def test_module_and_program_are_the_same(command: list[str], tmp_path: Path) -> None:
    """`python -m salt_exporter` and `salt-exporter` both run the command line, wherever one stands."""
    done = subprocess.run(
        [sys.executable, *command, "--version"], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert f"salt-exporter {salt_exporter.__version__}\n" == done.stdout


def test_reader_that_has_enough_is_no_error() -> None:
    """With a pipe that nobody reads any more (`| head`) there is no traceback."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "salt_exporter", "--config.check", "--config.file=/dev/null"],
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(writing)

    assert (done.returncode, done.stderr) == (141, "")


def test_commands_do_not_load_a_web_server() -> None:
    """The command line itself stays light: what a short command does not need is not imported for it."""
    program = "import sys, salt_exporter.cli, salt_exporter.commands.minions; print('tornado' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"
