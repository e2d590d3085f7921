"""The daemon as a real process: signals, reloads, and a master that is not there or cannot be looked at."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from salt_exporter.collectors import ALL
from tests.unit.daemons import PATIENCE, START, Daemon, config_dir, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RSS_LIMIT = 45 << 20


@pytest.fixture(scope="module")
def daemon(start: Callable[..., Daemon], tmp_path_factory: pytest.TempPathFactory) -> Daemon:
    """Return a daemon that has looked at everything there is of a master that does not run."""
    folder = tmp_path_factory.mktemp("master")
    (folder / "exporter.yml").write_text("log.level: info\n")
    daemon = start("--config.file", str(folder / "exporter.yml"), config_dir=config_dir(folder))
    assert eventually(daemon.is_ready)
    daemon.get("/")
    daemon.get()
    return daemon


@pytest.fixture
def hanging(start: Callable[..., Daemon], tmp_path: Path) -> Iterator[Callable[[], Daemon]]:
    """Return a starter of a daemon that hangs when it looks at its master: the configuration is a pipe."""
    pipe = config_dir(tmp_path) / "master"
    pipe.unlink()
    os.mkfifo(pipe)
    yield lambda: start(config_dir=pipe.parent)
    with contextlib.suppress(OSError):  # until nobody reads it any more
        while True:
            os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
            time.sleep(0.1)


def test_ready_when_it_has_looked_at_the_master(daemon: Daemon) -> None:
    """The daemon is ready although no master runs: it has looked, and can say what it has found."""
    assert daemon.get("/-/ready")[0] == daemon.get("/-/healthy")[0] == 200


def test_absent_master_fails_only_what_needs_it(daemon: Daemon) -> None:
    """Without a running master its files are read all the same; success is there for every collector."""
    success = daemon.success()
    metrics = daemon.metrics()

    assert list(success) == [collector.name for collector in ALL]
    assert {name for name in ("master", "keys", "settings", "connections", "jobs", "exporter") if success[name]} == {
        *("master", "keys", "settings", "connections", "jobs", "exporter")
    }
    assert not success["eventbus"]
    assert (metrics["salt_master_up"], metrics["salt_keys accepted"]) == (0, 1)


def test_absent_master_is_logged_once(daemon: Daemon) -> None:
    """That no master runs is one clear line for each part that needs it, however often it is scraped."""
    for _ in range(3):
        daemon.get()
        time.sleep(0.5)
    complaints = daemon.complaints()

    assert [] == [line for line in set(complaints) if complaints.count(line) > 1]
    about_the_bus = [
        line for line in complaints if "master_event_pub.ipc: it does not exist; is the salt-master" in line
    ]
    assert "component=master.bus" in about_the_bus[0]
    assert len(about_the_bus) == len({line.split()[1] for line in about_the_bus})


def test_every_warning_is_counted(daemon: Daemon) -> None:
    """As many warnings and errors as stand in the log, so many the metric shows."""
    metrics = daemon.metrics()
    levels = re.findall(r" level=(warning|error) ", daemon.log())

    for level in ("warning", "error"):
        assert levels.count(level) == metrics[f"salt_exporter_log_messages_total {level}"]


def test_status_page_tells_of_the_master(daemon: Daemon) -> None:
    """The start page shows the master, its one minion that is away, and why the rest cannot be seen."""
    status, page = daemon.get("/")

    assert (status, "<strong>here, Salt " in page) == (200, True)
    assert "Of 1 accepted minion 0 present, 1 not present, 0 uncertain." in page
    assert "Could not ask for the collector “eventbus”" in page


def test_salt_is_never_loaded(daemon: Daemon) -> None:
    """The running daemon, after scrapes and all, has not imported Salt."""
    modules = daemon.modules()

    assert {"salt_exporter.daemon", "salt_exporter.collectors.jobs", "tornado.web"} <= modules
    assert {name for name in modules if name.partition(".")[0] == "salt"} == set()


def test_ncurses_is_not_loaded(daemon: Daemon) -> None:
    """What Tornado would colour the lines of a terminal with costs no memory here."""
    modules = daemon.modules()

    assert "tornado.log" in modules
    assert "_curses" not in modules


def test_memory_is_modest(daemon: Daemon) -> None:
    """Beside a small master the daemon takes at most 45 MB."""
    for _ in range(5):
        daemon.get()

    assert psutil.Process(daemon.process.pid).memory_info().rss <= RSS_LIMIT


def reload(daemon: Daemon, content: str, says: str) -> None:
    """Change the exporter's configuration, send SIGHUP, and wait for what the log says to it."""
    seen = daemon.log().count(says)
    (file,) = re.findall(r"--config\.file\0([^\0]+)", Path(f"/proc/{daemon.process.pid}/cmdline").read_text())
    Path(file).write_text(content)
    daemon.kill(signal.SIGHUP)
    assert eventually(lambda: daemon.log().count(says) > seen)


def last_reload(daemon: Daemon) -> tuple[float, float]:
    """Return whether the last reload was successful, and when the last successful one was."""
    metrics = daemon.metrics()
    return (
        metrics["salt_exporter_config_last_reload_successful"],
        metrics["salt_exporter_config_last_reload_success_timestamp_seconds"],
    )


def test_sighup_reloads(daemon: Daemon) -> None:
    """SIGHUP takes a new log level at once, keeps everything where the file is bad, and says how it went."""
    successful, first = last_reload(daemon)
    assert (successful, "level=debug" in daemon.log()) == (1, False)

    reload(daemon, "log.level: debug\n", "configuration reloaded")
    daemon.get("/-/healthy")
    assert eventually(lambda: 'level=debug component=web msg="200 GET /-/healthy"' in daemon.log())
    successful, second = last_reload(daemon)
    assert (successful, second > first) == (1, True)

    reload(daemon, "log.level: loud\n", "configuration not reloaded: ")
    assert "log.level: expected one of debug, info, warning, error, got 'loud'" in daemon.complaints()[-1]
    assert last_reload(daemon) == (0, second)
    debug = daemon.log().count("level=debug")
    daemon.get("/-/healthy")
    assert eventually(lambda: daemon.log().count("level=debug") > debug)

    reload(daemon, "log: {level: info, format: json}\njobs.deadline: 7m\n", '"msg": "configuration reloaded"')
    assert last_reload(daemon)[0] == 1
    said = [json.loads(line)["msg"] for line in daemon.log().splitlines() if line.startswith("{")]
    assert "these settings take effect with the next start: jobs.deadline" in said
    daemon.get("/-/healthy")

    reload(daemon, "log.level: info\n", 'msg="configuration reloaded"')
    assert '"level": "debug"' not in daemon.log()


def test_taken_port_is_one_clear_sentence(daemon: Daemon, tmp_path: Path) -> None:
    """Where somebody else listens already, the daemon ends with status 1, and says what to do."""
    address = f"127.0.0.1:{daemon.port}"
    second = Daemon(tmp_path / "own", "--web.listen-address", address, config_dir=tmp_path)

    assert second.process.wait(START) == 1
    assert [line.partition("msg=")[2] for line in second.complaints()] == [
        f'"cannot listen on {address}: [Errno 98] Address already in use: choose another --web.listen-address"'
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_end_answers_the_scrape_under_way(number: signal.Signals, hanging: Callable[[], Daemon]) -> None:
    """Told to end during a scrape, the daemon takes no new one, answers the running one whole, and exits with 0.

    Idle connections do not keep it, nor do collectors that hang.
    """
    daemon = hanging()
    with closing(socket.create_connection(("127.0.0.1", daemon.port))) as idle:
        idle.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
        with closing(http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=PATIENCE)) as scrape:
            scrape.request("GET", "/metrics", headers={"X-Prometheus-Scrape-Timeout-Seconds": "2"})
            time.sleep(0.3)
            daemon.kill(number)
            assert eventually(lambda: "salt-exporter ends" in daemon.log())
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", daemon.port)).close()
            assert not daemon.ended
            answer = scrape.getresponse()
            body = answer.read()
        told = time.monotonic()

        assert (answer.status, body.count(b"\nsalt_exporter_collector_success{")) == (200, len(ALL))
        assert daemon.process.wait(START) == 0
        assert time.monotonic() - told < 15
        assert "Traceback" not in daemon.log()


def test_hanging_master_does_not_hold_up_scrapes(hanging: Callable[[], Daemon]) -> None:
    """While every look at the master hangs, many open start pages keep no scrape waiting, and the daemon can end."""
    daemon = hanging()
    assert daemon.get("/-/ready")[0] == 503
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            page = stack.enter_context(closing(socket.create_connection(("127.0.0.1", daemon.port))))
            page.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        began = time.monotonic()
        success = daemon.success(timeout="1")
        assert time.monotonic() - began < 10
        assert (success["jobs"], success["exporter"], success["keys"]) == (True, True, False)
        daemon.kill(signal.SIGHUP)
        daemon.kill(signal.SIGTERM)
        assert daemon.process.wait(START) == 0


def test_wrong_config_dir_heals(start: Callable[..., Daemon], tmp_path: Path) -> None:
    """With a wrong config dir the daemon stays up, says once what to do, and goes on when the directory is right."""
    real = config_dir(tmp_path / "real")
    daemon = start(config_dir=tmp_path / "etc")
    assert eventually(daemon.is_ready)
    for _ in range(3):
        success = daemon.success()
        time.sleep(0.5)
    complaints = daemon.complaints()

    assert not any(success[name] for name in ("master", "keys", "presence", "settings", "eventbus"))
    assert success["exporter"]
    # Other masters that come and go on this machine are named in the sentence, and make it another one.
    assert [] == [line for line in set(complaints) if complaints.count(line) > 1]
    sentence = f"{tmp_path}/etc holds no master configuration and no salt-master runs with it: set --salt.config-dir"
    assert sentence in daemon.log()

    (tmp_path / "etc").symlink_to(real)
    assert eventually(lambda: all(daemon.success()[name] for name in ("master", "keys", "settings")))
    assert 'msg="collector master works again"' in daemon.log()


WITHOUT_RIGHTS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()


@pytest.mark.skipif(bool(WITHOUT_RIGHTS) and not shutil.which("setpriv"), reason="setpriv is not installed")
def test_unreadable_files_heal(start: Callable[..., Daemon], tmp_path: Path) -> None:
    """Files that may not be read are named with the way out, once; when they may be, the daemon goes on by itself."""
    master = config_dir(tmp_path) / "master"
    minions = tmp_path / "etc/salt/pki/master/minions"
    master.chmod(0)
    minions.chmod(0)
    daemon = start(config_dir=tmp_path / "etc", prefix=WITHOUT_RIGHTS)
    assert eventually(daemon.is_ready)
    assert not any(daemon.success()[name] for name in ("master", "keys", "settings"))
    way_out = "run the exporter as the user the salt-master runs as"
    assert f"{master} cannot be read (Permission denied): {way_out}" in daemon.log()

    master.chmod(0o600)
    assert eventually(lambda: daemon.success()["master"])
    assert not daemon.success()["keys"]
    daemon.get()
    sentence = re.escape(f"cannot list the minion keys in {minions} (Permission denied): run the exporter as the user")
    said_of = ", ".join(re.findall(rf'msg="collector ([a-z, ]+): {sentence} ', daemon.log())).split(", ")
    assert "keys" in said_of
    assert len(said_of) == len(set(said_of))

    minions.chmod(0o700)
    assert eventually(lambda: all(daemon.success()[name] for name in ("master", "keys", "settings")))
    assert not daemon.ended
