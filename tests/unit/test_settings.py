"""The master's options: resolved by its own Salt, kept current, and never by a program that is not to be trusted."""

from __future__ import annotations

import json
import logging
import os
import stat
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from salt_exporter.errors import SourceError
from salt_exporter.master import ask as asking
from salt_exporter.master import settings
from salt_exporter.master.ask import Answer, Memory, ask, watched
from salt_exporter.master.bus import BusAddress
from salt_exporter.master.options import LINES, OPTIONS, is_read
from salt_exporter.master.process import MasterProcess
from salt_exporter.master.settings import MasterSettings, SettingsSource
from tests.unit.salts import RAW, SALTS, every_salt
from tests.unit.tools import NOBODY, public_folder, unprivileged

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files and processes to others")
NOWHERE = Memory(None)


def write(path: Path, text: str) -> Path:
    """Write a file, with its folder, so that it is another one than before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(".temporary")
    temporary.write_text(textwrap.dedent(text))
    temporary.rename(path)
    return path


def process(
    config_dir: Path, python: str | Path = sys.executable, uid: int = os.geteuid(), pid: int = 1
) -> MasterProcess:
    """Return a running master that was started just now."""
    return MasterProcess(pid, time.time(), uid, os.getegid(), Path(python), config_dir)


@pytest.fixture
def masters(monkeypatch: pytest.MonkeyPatch) -> list[MasterProcess]:
    """Return the masters that run as far as the settings know."""
    running: list[MasterProcess] = []
    monkeypatch.setattr(settings, "running_masters", lambda: running)
    return running


# --- real Salts ---


@every_salt
def test_defaults_of_a_real_salt(tmp_path: Path, line: int, folder: Path, masters: list[MasterProcess]) -> None:
    """With an empty configuration each line gives its own defaults, a value for every option it reads."""
    config = write(tmp_path / "master", "root_dir: /srv/root\n").parent
    masters.append(process(config, folder / "python"))
    found = SettingsSource(config, NOWHERE).refresh()

    assert (line, "master", "zeromq") == (found.version_info[0], found.source, found.transport)
    assert (4505, 4506) == (found.publish_port, found.request_port)
    assert (Path("/srv/root/etc/salt/pki/master"), Path("/srv/root/var/cache/salt/master")) == (
        found.pki_dir,
        found.cachedir,
    )
    assert BusAddress(path=Path("/srv/root/var/run/salt/master/master_event_pub.ipc")) == found.bus
    assert ("localfs", "localfs_key", {"default": 5}) == (found.cache_driver, found.keys_driver, found.pools)
    assert masters[0] is found.process
    without = {option.name for option in OPTIONS if is_read(option, found.version_info)} - found.options.keys()
    assert set() == without
    assert (1000.0, 0.0) == (found.options["pub_hwm"], found.options["zmq_filtering"])
    assert found.options.get("ipc_write_buffer") in (None, 0.0)  # 0 is no limit
    beats = found.options.get("zmq_heartbeat_ivl")
    assert {3006: 10_000.0, 3007: None, 3008: 10_000.0}[line] == beats


@every_salt
def test_drop_ins_and_includes_of_a_real_salt(tmp_path: Path, line: int, folder: Path) -> None:
    """Files in master.d, included ones, and what those include in turn, are resolved, and watched from then on."""
    write(tmp_path / "master", "pub_hwm: 1\nid: here\ninclude: more/*.conf\nsecret_token: hunter2\nipc_mode: tcp\n")
    write(tmp_path / "master.d/a.conf", "pub_hwm: 2\nzmq_backlog: 2\n")
    write(tmp_path / "more/b.conf", "zmq_backlog: 3\ninclude:\n  - deeper/*.conf\n")
    write(tmp_path / "more/deeper/c.conf", "worker_threads: 4\n")
    names = ("id", "pub_hwm", "zmq_backlog", "worker_threads", "ipc_mode", "no_such_option")
    answer = ask(folder / "python", tmp_path, names)

    wanted = {
        "id": "here",
        "pub_hwm": 2,
        "zmq_backlog": 3,
        "worker_threads": 4,
        "ipc_mode": "tcp",
        "no_such_option": None,
    }
    assert wanted == answer["options"]
    assert answer["version"].startswith(str(line))
    assert "hunter2" not in json.dumps(answer)  # what is not asked for does not leave the process
    ours = {path for path, *_ in watched(answer) if path.startswith(str(tmp_path))}
    assert {str(tmp_path / name) for name in ("master", "master.d/a.conf", "more/b.conf", "more/deeper/c.conf")} == ours
    assert any(path.endswith("/salt/version.py") for path, *_ in watched(answer))

    for name in ("master.d/new.conf", "more/new.conf", "more/deeper/new.conf"):
        before = watched(answer)
        write(tmp_path / name, "")
        assert before != watched(answer)


@every_salt
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pub_hwm: 1\n  worker_threads: [\n", r"Error parsing configuration file: \S+/master - .*line 2"),
        ("just text\n", r"conf should be a document"),
    ],
)
def test_broken_configuration_is_told_by_a_real_salt(
    tmp_path: Path, line: int, folder: Path, text: str, message: str
) -> None:
    """A master's file that is no YAML is one sentence that names file and line."""
    write(tmp_path / "master", text)

    with pytest.raises(SourceError, match=f"{folder}/python cannot resolve the options in {tmp_path}: .*{message}"):
        ask(folder / "python", tmp_path, ["id"])
    assert line in LINES


def test_pools_of_3008(tmp_path: Path, masters: list[MasterProcess]) -> None:
    """Worker pools are told by name and size."""
    if "3008" not in SALTS:
        pytest.skip("no Salt 3008")
    write(
        tmp_path / "master",
        """\
        worker_pools:
          fast: {worker_count: 2, commands: [ping]}
          general: {worker_count: 3, commands: ['*']}
        """,
    )
    masters.append(process(tmp_path, SALTS["3008"] / "python"))

    found = SettingsSource(tmp_path, NOWHERE).current()
    assert ({"fast": 2, "general": 3}, 2) == (found.pools, found.ping_workers)


# --- the script and its process ---


@pytest.fixture
def fake_python(tmp_path: Path) -> Callable[[str], Path]:
    """Return a maker of executables that are called like a Python and run these lines of shell."""

    def make(script: str) -> Path:
        path = write(tmp_path / "bin/python3", f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    return make


ANSWER = '{"version": "3008.3", "files": [], "patterns": [], "options": {"id": "x"}}'


def test_script_runs_isolated(
    tmp_path: Path, fake_python: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither our environment nor our folder reaches the master's Python; it looks for modules at home only."""
    monkeypatch.setenv("PYTHONPATH", "/evil")
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    python = fake_python(f'printf \'%s\\n\' "$1" "$2" "$4" "$5" "$6" "$PYTHONPATH" "$PWD" >{out}\necho \'{ANSWER}\'')

    assert "3008.3" == ask(python, Path("/srv/salt"), ["id", "transport"])["version"]
    assert ["-I", "-c", "/srv/salt", "id", "transport", "", "/"] == out.read_text().splitlines()


def test_isolated_python_imports_no_module_of_the_folder_or_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file called salt.py where the exporter was started is not the Salt that answers."""
    write(tmp_path / "salt.py", "raise SystemExit('evil')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "etc/master", "id: good")

    assert "good" == ask(Path(sys.executable), tmp_path / "etc", ["id"])["options"]["id"]


@needs_root
def test_root_asks_with_the_rights_of_the_master() -> None:
    """Run as root, the exporter gives up its rights before it runs the master's Python."""
    with public_folder() as folder:
        python = write(
            folder / "python3", f"#!/bin/sh\necho \"$(id -u) $(id -g) $(id -G)\" >&2\necho '{ANSWER}'\nexit 1\n"
        )
        python.chmod(0o755)
        master = MasterProcess(1, 0.0, NOBODY, 12345, python, folder)

        with pytest.raises(SourceError, match=f"{NOBODY} 12345 12345$"):
            ask(python, folder, ["id"], master)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo one >&2; echo two >&2; exit 1", "cannot resolve the options in /srv/salt: two$"),
        (
            "echo '[ERROR   ] parsing' >&2; echo '  line 2' >&2; exit 1",
            r"cannot resolve .*: \[ERROR \] parsing line 2$",
        ),
        ("echo only; exit 1", "cannot resolve .*: only$"),
        ("exit 1", "cannot resolve .*: no output$"),
        ("kill -9 $$", "cannot resolve .*: no output$"),
        ("printf '%0500d' 7 >&2; exit 1", "cannot resolve .*: 0{300}$"),
        ("exit 0", "cannot be run"),
        ("echo hello", "cannot be run"),
        ("echo '[]'", "gave no options for /srv/salt"),
        ("""echo '{"version": "3008.3", "files": [], "patterns": []}'""", "gave no options for /srv/salt"),
    ],
)
def test_python_that_gives_no_answer_is_told(fake_python: Callable[[str], Path], script: str, message: str) -> None:
    """Whatever goes wrong with the master's Python is one sentence with what it said last."""
    with pytest.raises(SourceError, match=message):
        ask(fake_python(script), Path("/srv/salt"), ["id"])


def test_python_that_hangs_is_given_up(fake_python: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for ever."""
    monkeypatch.setattr(asking, "_TIMEOUT", 0.2)
    began = time.monotonic()

    with pytest.raises(SourceError, match="did not resolve the options in /srv/salt within 0 s"):
        ask(fake_python("exec sleep 30"), Path("/srv/salt"), ["id"])
    assert time.monotonic() - began < 10


def test_python_that_is_not_there_is_told(tmp_path: Path) -> None:
    """As after an upgrade that has moved it."""
    with pytest.raises(SourceError, match=r"none cannot be run to resolve the options in /srv/salt: .*No such file"):
        ask(tmp_path / "none", Path("/srv/salt"), ["id"])


def test_what_salt_prints_before_the_answer_does_not_matter(fake_python: Callable[[str], Path]) -> None:
    """Warnings on standard output come first."""
    assert {"id": "x"} == ask(fake_python(f"echo 'old option'; echo '{ANSWER}'"), Path("/srv/salt"), ["id"])["options"]


# --- the memory ---


@pytest.fixture
def remembered(tmp_path: Path) -> tuple[Memory, Path, Answer]:
    """Return a memory, the file it is in, and the answer that it holds for the key "a", "b"."""
    source = write(tmp_path / "etc/master", "")
    answer: Answer = {
        "version": "1",
        "files": [str(source)],
        "patterns": [f"{source.parent}/*.conf"],
        "options": {"id": "x"},
    }
    path = tmp_path / "state/settings.json"
    memory = Memory(path)
    memory.remember(answer, "a", "b")
    return memory, path, answer


def test_answer_is_recalled(remembered: tuple[Memory, Path, Answer]) -> None:
    """What was remembered is believed, by a new process too, and only for its key."""
    memory, path, answer = remembered

    assert answer == memory.recall("a", "b") == Memory(path).recall("a", "b")
    assert memory.recall("a") is None
    assert memory.recall("a", "c") is None
    assert [path] == list(path.parent.iterdir())
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert 0o700 == stat.S_IMODE(path.parent.stat().st_mode)


@pytest.mark.parametrize("change", ["content", "time", "new file", "removed"])
def test_answer_is_forgotten_when_a_file_changes(
    remembered: tuple[Memory, Path, Answer], tmp_path: Path, change: str
) -> None:
    """Any change of what it came from ends its time."""
    memory, _path, _answer = remembered
    source = tmp_path / "etc/master"
    if change == "content":
        write(source, "x")
    elif change == "time":
        os.utime(source, (1, 1))
    elif change == "removed":
        source.unlink()
    else:
        write(tmp_path / "etc/new.conf", "")

    assert memory.recall("a", "b") is None


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_memory_that_others_may_write_is_not_believed(remembered: tuple[Memory, Path, Answer], mode: int) -> None:
    """Who can write it could give the exporter other paths."""
    memory, path, _answer = remembered
    path.chmod(mode)

    assert memory.recall("a", "b") is None


@needs_root
def test_memory_of_another_owner_is_not_believed(remembered: tuple[Memory, Path, Answer]) -> None:
    """A file that somebody else has put there is not ours."""
    memory, path, _answer = remembered
    os.chown(path, NOBODY, -1)

    assert memory.recall("a", "b") is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff", b'{"key": ["a", "b"], "answer": 5}', b"null"])
def test_damaged_memory_is_none(remembered: tuple[Memory, Path, Answer], content: bytes) -> None:
    """A file that makes no sense costs one question to Salt."""
    memory, path, _answer = remembered
    path.write_bytes(content)

    assert memory.recall("a", "b") is None


def test_without_a_place_nothing_is_remembered(remembered: tuple[Memory, Path, Answer], tmp_path: Path) -> None:
    """No folder, or one that cannot be written, is no error."""
    _memory, _path, answer = remembered
    blocked = Memory(tmp_path / "etc/master/settings.json")  # below a file
    for memory in (NOWHERE, blocked):
        memory.remember(answer, "a")
        assert memory.recall("a") is None


def test_memory_is_replaced_as_a_whole(remembered: tuple[Memory, Path, Answer]) -> None:
    """The newest answer counts, and no temporary file stays."""
    memory, path, answer = remembered
    memory.remember({**answer, "version": "2"}, "a", "b")

    assert {**answer, "version": "2"} == memory.recall("a", "b")
    assert [path] == list(path.parent.iterdir())


# --- the source, with a Salt that is made up ---


class Salt:
    """Answers instead of every Python; a test changes what it says, and sees who was asked."""

    def __init__(self, config_dir: Path) -> None:
        self.raw = RAW
        self.asked: list[Path] = []
        self.problems: dict[Path, str] = {}
        self._config_dir = config_dir

    def __call__(
        self, python: Path, config_dir: Path, names: Sequence[str], _master: MasterProcess | None = None
    ) -> Answer:
        """Give the options as they are now."""
        assert self._config_dir == config_dir
        assert settings._NAMES == names
        self.asked.append(python)
        if python in self.problems:
            raise SourceError(self.problems[python])
        return {
            "version": "3008.3",
            "files": [f"{config_dir}/master"],
            "patterns": [f"{config_dir}/master.d/*.conf"],
            "options": self.raw,
        }


OURS, THEIRS = Path(sys.executable), Path("/usr/bin/env")  # two executables that may be trusted


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a config dir with a configuration."""
    return write(tmp_path / "etc/master", "").parent


@pytest.fixture
def salt(monkeypatch: pytest.MonkeyPatch, config: Path) -> Salt:
    """Let a Salt that is made up answer."""
    salt = Salt(config)
    monkeypatch.setattr(settings, "ask", salt)
    return salt


@pytest.fixture
def source(config: Path, salt: Salt, masters: list[MasterProcess]) -> SettingsSource:
    """Return a source that asks the Salt that is made up; no master runs."""
    assert not salt.asked
    assert not masters
    return SettingsSource(config, NOWHERE)


def test_exporters_own_salt_answers_where_no_master_runs(source: SettingsSource, salt: Salt) -> None:
    """It shows that it was not the master's."""
    found = source.current()

    assert ("exporter", None, False) == (found.source, found.process, found.changed_since_start)
    assert [OURS] == salt.asked


def test_running_masters_own_python_answers(
    source: SettingsSource, salt: Salt, masters: list[MasterProcess], config: Path
) -> None:
    """The master with this config dir is asked, whichever else run here."""
    masters += [process(Path("/elsewhere"), OURS), process(config, THEIRS)]
    found = source.current()

    assert ("master", masters[1]) == (found.source, found.process)
    assert [THEIRS] == salt.asked


def test_salt_is_asked_once_until_something_changes(
    source: SettingsSource, salt: Salt, masters: list[MasterProcess], config: Path
) -> None:
    """A change of a file, a new drop-in or another process is noticed; nothing else asks again."""
    masters.append(process(config, THEIRS))
    first = source.refresh()
    assert first is source.refresh()
    assert first is source.current()
    assert 1 == len(salt.asked)

    salt.raw = {**RAW, "publish_port": 14505}
    write(config / "master", "publish_port: 14505")
    assert 14505 == source.refresh().publish_port
    assert 14505 == source.current().publish_port

    salt.raw = {**RAW, "publish_port": 24505}
    drop_in = write(config / "master.d/a.conf", "publish_port: 24505")
    assert 24505 == source.refresh().publish_port

    salt.raw = RAW
    drop_in.unlink()
    assert 4505 == source.refresh().publish_port

    masters[0] = process(config, THEIRS, pid=2)
    assert 2 == getattr(source.refresh().process, "pid", None)
    assert 5 == len(salt.asked)


def test_reading_does_not_look_for_changes(source: SettingsSource, salt: Salt, config: Path) -> None:
    """`current` is what was last resolved: collectors do not wait for Salt."""
    first = source.current()
    write(config / "master", "x: 1")

    assert first is source.current()
    assert 1 == len(salt.asked)


def test_master_that_restarts_keeps_its_settings(
    source: SettingsSource, salt: Salt, masters: list[MasterProcess], config: Path
) -> None:
    """While no process is there the answer of its Python holds: the exporter's Salt may be of another line."""
    masters.append(process(config, THEIRS))
    source.refresh()
    (before,) = masters
    masters.clear()
    for _ in range(2):
        found = source.refresh()
        assert ("master", None) == (found.source, found.process)
    masters.append(before)  # it was overlooked
    assert before is source.refresh().process
    masters[0] = process(config, THEIRS, pid=2)
    assert 2 == getattr(source.refresh().process, "pid", None)

    assert [THEIRS, THEIRS, THEIRS] == salt.asked


def test_change_while_the_master_is_down_is_resolved_anew(
    source: SettingsSource, salt: Salt, masters: list[MasterProcess], config: Path
) -> None:
    """Then only the exporter's Salt can say what the files mean, and it shows."""
    masters.append(process(config, THEIRS))
    source.refresh()
    masters.clear()
    write(config / "master", "x: 1")

    assert "exporter" == source.refresh().source
    assert [THEIRS, OURS] == salt.asked


def test_last_good_settings_stay_while_the_configuration_is_broken(
    source: SettingsSource, salt: Salt, config: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A broken file is one log line and a problem that shows; what was known is used until it is repaired."""
    first = source.refresh()
    salt.problems[OURS] = "no YAML"
    write(config / "master", "broken")
    for _ in range(3):
        with pytest.raises(SourceError, match="no YAML"):
            source.refresh()
        assert "no YAML" == source.problem
        assert first is source.current()
    assert ["no YAML"] == [record.message for record in caplog.records if record.levelno == logging.WARNING]

    salt.problems.clear()
    write(config / "master", "")
    assert "here_master" == source.refresh().id
    assert "" == source.problem


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("publish_port", "many"),
        ("publish_port", 0),
        ("ret_port", 65536),
        ("ret_port", None),
        ("cachedir", None),
        ("pki_dir", 5),
        ("worker_pools", {"a": 5}),
        ("worker_pools", {"a": {}}),
        ("worker_threads", "many"),
    ],
)
def test_options_that_make_no_sense_are_a_problem_until_they_do(
    source: SettingsSource, salt: Salt, config: Path, option: str, value: object
) -> None:
    """A value of the wrong kind is a sentence each time it is looked at, and the last good settings stay."""
    first = source.refresh()
    salt.raw = {**RAW, option: value}
    write(config / "master", "nonsense")
    for _ in range(2):
        with pytest.raises(SourceError, match=f"the options in {config} make no sense .*salt-master --help"):
            source.refresh()
        assert source.problem
        assert first is source.current()


def test_what_cannot_be_resolved_is_not_tried_for_everybody_who_asks(
    source: SettingsSource, salt: Salt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five collectors at each scrape do not start Salt five times; housekeeping does try again, and so does time."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    salt.problems[OURS] = "no YAML"
    for _ in range(5):
        with pytest.raises(SourceError, match="no YAML"):
            source.current()
    assert 1 == len(salt.asked)

    with pytest.raises(SourceError, match="no YAML"):
        source.refresh()
    assert 2 == len(salt.asked)

    now += 6.0
    salt.problems.clear()
    assert "here_master" == source.current().id


def test_python_that_cannot_answer_leaves_it_to_the_exporters(
    source: SettingsSource, salt: Salt, masters: list[MasterProcess], config: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The reason is logged once, and the settings show who resolved them; when it can, it is the master again."""
    masters.append(process(config, THEIRS))
    salt.problems[THEIRS] = "no module named salt"
    for number in range(3):
        write(config / "master", f"x: {number}")
        assert "exporter" == source.refresh().source
    assert 1 == sum("not asked (no module named salt)" in record.message for record in caplog.records)

    salt.problems.clear()
    write(config / "master", "")
    assert "master" == source.refresh().source


@needs_root
def test_python_that_is_not_to_be_trusted_is_not_run(
    source: SettingsSource, salt: Salt, masters: list[MasterProcess], config: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody who starts a process that calls itself salt-master cannot make the exporter run his program."""
    with public_folder() as folder:
        evil = write(folder / "python3", "#!/bin/sh\n")
        evil.chmod(0o755)
        os.chown(evil, NOBODY, -1)
        masters.append(process(config, evil, uid=NOBODY))
        found = source.refresh()

    assert "exporter" == found.source
    assert [OURS] == salt.asked
    assert f"{evil} belongs to uid {NOBODY}" in caplog.text


@pytest.mark.parametrize(
    ("ours", "theirs", "asked"), [(1000, 0, True), (1000, 1000, True), (1000, 1001, False), (0, 1001, True)]
)
def test_only_masters_of_root_or_our_own_are_asked(
    source: SettingsSource,
    salt: Salt,
    masters: list[MasterProcess],
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    ours: int,
    theirs: int,
    asked: object,
) -> None:
    """As any user but root, the exporter believes no master that runs as a third one."""
    monkeypatch.setattr(os, "geteuid", lambda: ours)
    monkeypatch.setattr(settings, "distrust", lambda _python: "")
    masters.append(process(config, THEIRS, uid=theirs))

    assert ("master" if asked else "exporter") == source.refresh().source
    assert [THEIRS if asked else OURS] == salt.asked


def test_config_dir_without_configuration_is_told(masters: list[MasterProcess], tmp_path: Path) -> None:
    """The wrong folder is a sentence that says which option to set, and where masters do run."""
    with pytest.raises(SourceError, match=f"{tmp_path} holds no master configuration and .*: set --salt.config-dir$"):
        SettingsSource(tmp_path, NOWHERE).refresh()

    masters.append(process(Path("/srv/salt")))
    with pytest.raises(SourceError, match=r"set --salt.config-dir \(masters run here with /srv/salt\)"):
        SettingsSource(tmp_path, NOWHERE).refresh()


def test_drop_ins_alone_are_a_configuration(masters: list[MasterProcess], salt: Salt, config: Path) -> None:
    """A master may be configured in master.d only, or, once it runs, not at all."""
    (config / "master").rename(config / "away")
    with pytest.raises(SourceError, match="holds no master configuration"):
        SettingsSource(config, NOWHERE).refresh()

    (config / "master.d").mkdir()
    assert "exporter" == SettingsSource(config, NOWHERE).refresh().source

    (config / "master.d").rmdir()
    masters.append(process(config, THEIRS))
    assert "master" == SettingsSource(config, NOWHERE).refresh().source
    assert [OURS, THEIRS] == salt.asked


def test_config_dir_is_compared_without_its_spelling(masters: list[MasterProcess], salt: Salt, config: Path) -> None:
    """A slash at the end or a detour names the same folder."""
    masters.append(process(config, THEIRS))

    assert "master" == SettingsSource(Path(f"{config}/../etc/"), NOWHERE).refresh().source
    assert [THEIRS] == salt.asked


@needs_root
@pytest.mark.parametrize("closed", ["etc", "etc/master"])
@pytest.mark.parametrize("running", [True, False])
def test_configuration_of_another_user_is_told(masters: list[MasterProcess], closed: str, running: object) -> None:
    """What may not be read is no empty configuration, whether a master runs with it or not."""
    with public_folder() as folder:
        write(folder / "etc/master", "").chmod(0o644)
        (folder / "etc").chmod(0o755)
        (folder / closed).chmod(0o700)
        if running:
            masters.append(process(folder / "etc"))
        with unprivileged(), pytest.raises(SourceError, match=r"cannot (be read|look into).*[Pp]ermission denied"):
            SettingsSource(folder / "etc", NOWHERE).refresh()


def test_memory_spares_the_question(salt: Salt, masters: list[MasterProcess], config: Path, tmp_path: Path) -> None:
    """A command that runs a moment later asks nobody, until a file changes."""
    masters.append(process(config, THEIRS))
    memory = Memory(tmp_path / "state/settings.json")
    first = SettingsSource(config, memory).current()
    assert first == SettingsSource(config, memory).current()
    assert [THEIRS] == salt.asked

    write(config / "master", "x: 1")
    SettingsSource(config, memory).current()
    assert [THEIRS, THEIRS] == salt.asked


def test_memory_of_an_older_exporter_is_not_used(
    salt: Salt, masters: list[MasterProcess], config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an upgrade that asks for more options the old answer lacks them."""
    assert not masters
    memory = Memory(tmp_path / "state/settings.json")
    SettingsSource(config, memory).current()
    monkeypatch.setattr(settings, "_NAMES", (*settings._NAMES, "new_option"))
    SettingsSource(config, memory).current()

    assert 2 == len(salt.asked)


def test_changed_since_start(source: SettingsSource, salt: Salt, masters: list[MasterProcess], config: Path) -> None:
    """A file that is newer than the master's process means that it does not run with it yet."""
    started = time.time() - 100
    masters.append(MasterProcess(1, started, 0, 0, THEIRS, config))
    for changed, expected in ((started - 50, False), (started + 1, False), (started + 50, True)):
        write(config / "master", str(changed))
        os.utime(config / "master", (changed, changed))
        assert expected is source.refresh().changed_since_start
    assert 3 == len(salt.asked)


def resolved(source: SettingsSource, salt: Salt, **raw: object) -> MasterSettings:
    """Return the settings that these options give."""
    salt.raw = {**RAW, **raw}
    return source.refresh()


@pytest.mark.parametrize(
    ("raw", "field", "expected"),
    [
        ({}, "bus", BusAddress(path=Path("/run/master_event_pub.ipc"))),
        ({"ipc_mode": "tcp", "tcp_master_pub_port": 14512}, "bus", BusAddress(port=14512)),
        ({"cluster_id": "one", "cluster_pki_dir": "/shared"}, "pki_dir", Path("/shared")),
        ({"cluster_pki_dir": "/shared"}, "pki_dir", Path("/pki")),
        ({"cluster_id": "one", "cluster_pki_dir": "/shared"}, "cluster_id", "one"),
        ({}, "cluster_id", ""),
        ({"keys.cache_driver": "mmap_key"}, "keys_driver", "mmap_key"),
        ({}, "keys_driver", "localfs_key"),
        ({"cache": "redis"}, "cache_driver", "redis"),
        ({"worker_threads": 7}, "pools", {"default": 7}),
        ({"worker_pools": {"a": {"worker_count": 2}}}, "pools", {"a": 2}),
        ({"worker_pools": {"a": {"worker_count": 2}}, "worker_pools_enabled": False}, "pools", {"default": 5}),
        ({"worker_pools": None, "worker_pools_enabled": None}, "pools", {"default": 5}),
        ({"id": 5}, "id", "5"),
        ({"publish_port": "4507"}, "publish_port", 4507),
    ],
)
def test_options_become_settings(
    source: SettingsSource, salt: Salt, raw: dict[str, object], field: str, expected: object
) -> None:
    """Each setting follows from its options."""
    assert expected == getattr(resolved(source, salt, **raw), field)


@pytest.mark.parametrize(("version", "numbers"), [("3006.28", (3006, 28)), ("3008.3+12.gabc", (3008, 3)), ("odd", ())])
def test_version_is_numbers(
    source: SettingsSource, version: str, numbers: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What follows from the version is decided by its first two numbers."""
    answer = {"version": version, "files": [], "patterns": [], "options": RAW}
    monkeypatch.setattr(settings, "ask", lambda *_: answer)
    found = source.refresh()

    assert (version, numbers) == (found.version, found.version_info)
