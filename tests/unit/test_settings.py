"""The master's options, resolved by the real Salt beside this Python."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from salt_exporter.errors import SourceError
from salt_exporter.master import settings as settings_module
from salt_exporter.master.ask import Memory, ask
from salt_exporter.master.bus import BusAddress
from salt_exporter.master.process import MasterProcess
from salt_exporter.master.settings import SettingsSource

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def config_dir(tmp_path: Path) -> Path:
    """Return a master's config dir with a drop-in and an include."""
    folder = tmp_path / "conf"
    (folder / "master.d").mkdir(parents=True)
    (folder / "more").mkdir()
    (folder / "master").write_text(f"root_dir: {tmp_path}\nid: tested\npub_hwm: 11\ninclude: more/*.conf\n")
    (folder / "master.d" / "a.conf").write_text("pub_hwm: 22\nworker_threads: 7\n")
    (folder / "more" / "b.conf").write_text("zmq_backlog: 33\n")
    return folder


@pytest.fixture
def source(config_dir: Path) -> SettingsSource:
    """Return what resolves that config dir, without a memory."""
    return SettingsSource(config_dir, Memory(None))


def test_drop_ins_and_includes_count(source: SettingsSource, tmp_path: Path) -> None:
    """Options come from the main file, drop-ins and includes, else from Salt's defaults; paths are Salt's own."""
    settings = source.current()

    options = settings.options
    assert (22, 7, 33, 10) == tuple(
        options[name] for name in ("pub_hwm", "worker_threads", "zmq_backlog", "gather_job_timeout")
    )
    assert ("tested", "zeromq", 4505, 4506) == (
        settings.id,
        settings.transport,
        settings.publish_port,
        settings.request_port,
    )
    assert {"default": 7} == settings.pools
    assert settings.pki_dir.is_relative_to(tmp_path)
    assert BusAddress(path=settings.bus.path) == settings.bus
    assert "exporter" == settings.source


def test_ipc_mode_tcp_gives_a_port(config_dir: Path) -> None:
    """With `ipc_mode: tcp` the bus is at the port that Salt has for it."""
    (config_dir / "master.d" / "tcp.conf").write_text("ipc_mode: tcp\ntcp_master_pub_port: 14512\n")
    assert BusAddress(port=14512) == SettingsSource(config_dir, Memory(None)).current().bus


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "master.d" / "a.conf").write_text("pub_hwm: 44"),
        lambda folder: (folder / "master.d" / "z.conf").write_text("pub_hwm: 44"),
        lambda folder: (folder / "more" / "z.conf").write_text("pub_hwm: 44"),
    ],
    ids=["changed drop-in", "new drop-in", "new include"],
)
def test_change_is_noticed(source: SettingsSource, config_dir: Path, change: Callable[[Path], object]) -> None:
    """A changed or new file shows at the next look, without a restart."""
    assert 22 == source.refresh().options["pub_hwm"]
    change(config_dir)
    assert 44 == source.refresh().options["pub_hwm"]


def test_nothing_changed_nothing_asked(source: SettingsSource, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as no file changes, no other Python is started."""
    before = source.refresh()
    monkeypatch.setattr(settings_module, "ask", lambda *_: pytest.fail("asked again"))
    assert before is source.refresh()


def test_bad_file_keeps_the_last_good_settings(
    source: SettingsSource, config_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that is no YAML is one sentence and one log line; what was known stays, and a mended file heals it."""
    source.refresh()
    good = (config_dir / "master").read_text()
    (config_dir / "master").write_text("pub_hwm: [")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            with pytest.raises(SourceError, match=r"cannot resolve the options in .*conf"):
                source.refresh()
    assert 1 == len(caplog.records)
    assert 22 == source.current().options["pub_hwm"]
    assert source.problem

    (config_dir / "master").write_text(good)

    assert 22 == source.refresh().options["pub_hwm"]
    assert "" == source.problem


def test_wrong_config_dir_says_what_to_do(tmp_path: Path) -> None:
    """Where there is neither a configuration nor a master, the sentence names the setting to change."""
    with pytest.raises(SourceError, match=r"holds no master configuration .*: set --salt\.config-dir"):
        SettingsSource(tmp_path / "nowhere", Memory(None)).current()


def test_untrusted_python_is_not_run(
    source: SettingsSource, config_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A master whose Python anybody may have put there is not asked, but our own Salt; log and `source` say so."""
    open_to_all = config_dir.parent / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    evil = open_to_all / "python3"
    evil.write_text(f"#!/bin/sh\ntouch {config_dir.parent}/was-run\n")
    evil.chmod(0o755)
    master = MasterProcess(pid=1, started=0.0, uid=os.geteuid(), gid=os.getegid(), python=evil, config_dir=config_dir)
    monkeypatch.setattr(settings_module, "running_masters", lambda: [master])

    with caplog.at_level(logging.WARNING):
        settings = source.current()

    assert "exporter" == settings.source
    assert not (config_dir.parent / "was-run").exists()
    assert "may be written by everybody" in caplog.text


def test_only_wanted_options_leave_the_other_process(config_dir: Path) -> None:
    """Secrets of the configuration stay where they are."""
    (config_dir / "master.d" / "s.conf").write_text("my_password: secret\n")
    answer = ask(Path(sys.executable), config_dir, ("pub_hwm",))
    assert {"pub_hwm": 22} == answer["options"]
    assert "secret" not in json.dumps(answer)


def test_memory_saves_asking(config_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second command finds the answer in the memory as long as nothing has changed."""
    memory = tmp_path / "state" / "settings.json"
    SettingsSource(config_dir, Memory(memory)).current()
    assert 0o600 == memory.stat().st_mode & 0o777

    with monkeypatch.context() as patch:
        patch.setattr(settings_module, "ask", lambda *_: pytest.fail("asked again"))
        assert 22 == SettingsSource(config_dir, Memory(memory)).current().options["pub_hwm"]
    (config_dir / "master.d" / "z.conf").write_text("pub_hwm: 66")
    assert 66 == SettingsSource(config_dir, Memory(memory)).current().options["pub_hwm"]


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_memory_that_others_may_write_is_not_believed(config_dir: Path, tmp_path: Path, mode: int) -> None:
    """What others could have written there does not count."""
    memory = tmp_path / "settings.json"
    SettingsSource(config_dir, Memory(memory)).current()
    forged = json.loads(memory.read_text())
    forged["answer"]["options"]["pub_hwm"] = 666
    memory.write_text(json.dumps(forged))
    assert 666 == SettingsSource(config_dir, Memory(memory)).current().options["pub_hwm"]

    memory.chmod(mode)

    assert 22 == SettingsSource(config_dir, Memory(memory)).current().options["pub_hwm"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"answer": 1}', '{"answer": {"files": 1, "patterns": 2}}'])
def test_broken_memory_is_no_memory(config_dir: Path, tmp_path: Path, content: str) -> None:
    """A memory that makes no sense costs the time to ask, and is written anew."""
    memory = tmp_path / "settings.json"
    memory.write_text(content)
    assert 22 == SettingsSource(config_dir, Memory(memory)).current().options["pub_hwm"]
    assert "answer" in json.loads(memory.read_text())
