"""The image's health check against exporters that run without a container; tests of the image run it inside one."""

from __future__ import annotations

import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import bcrypt
import pytest

from tests.packaging.distributions import ROOT
from tests.unit.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SCRIPT: Final = str(ROOT / "deploy/image/healthcheck.py")
_HASH: Final = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()


@contextmanager
def exporter(folder: Path, web_config: str = "") -> Iterator[tuple[int, list[str]]]:
    """Run an exporter without a master, yield its process id and the arguments it has."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "web.yml").write_text(web_config)
    settings = [f"--web.listen-address=127.0.0.1:{port}", f"--web.config.file={folder}/web.yml"]
    settings += ["--config.file=/dev/null", f"--salt.config-dir={folder}", f"--state.directory={folder}"]
    argv = [sys.executable, "-m", "salt_exporter", "serve", *settings]
    process = subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    try:
        while "listening" not in (line := process.stderr.readline()):
            assert line, "it has ended"
        yield process.pid, settings
    finally:
        process.kill()
        process.communicate()


def check(arguments: list[str], timeout: float = 30.0) -> int:
    """Return the exit status of the health check for an exporter with these arguments, patient on a busy machine."""
    script = runpy.run_path(_SCRIPT)
    script["main"].__globals__.update(arguments=lambda: arguments, TIMEOUT=timeout)
    return int(script["main"]())


_KINDS: Final = {
    "open": "",
    "users": "{users}",
    "TLS": "tls_server_config: {{{server}}}",
    "TLS and users": "tls_server_config: {{{server}}}\n{users}",
    "client certificates": "tls_server_config: {{{server}, {clients}}}",
    "client certificates, TLS 1.2": "tls_server_config: {{{server}, {clients}, max_version: TLS12}}",
}


@pytest.mark.parametrize("kind", _KINDS)
def test_an_exporter_that_answers_is_healthy(kind: str, tmp_path: Path) -> None:
    """The check needs no password, no certificate, and not to know whether there is TLS."""
    authority = Authority(tmp_path / "tls")
    cert_file, key_file = authority.issue("exporter")
    web_config = _KINDS[kind].format(
        server=f"cert_file: {cert_file}, key_file: {key_file}",
        clients=f"client_ca_file: {authority.file}, client_auth_type: RequireAndVerifyClientCert",
        users=f"basic_auth_users: {{prometheus: {_HASH}}}",
    )

    with exporter(tmp_path, web_config) as (_pid, arguments):
        assert 0 == check(arguments)


def test_an_exporter_that_hangs_is_not(tmp_path: Path) -> None:
    """The check fails, and in less time than the image gives it, while the exporter is stopped."""
    with exporter(tmp_path) as (pid, arguments):
        os.kill(pid, signal.SIGSTOP)
        before = time.monotonic()

        assert 1 == check(arguments, runpy.run_path(_SCRIPT)["TIMEOUT"])
        assert time.monotonic() - before < 5


def test_what_is_no_exporter_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The check fails, and says why, where nothing listens and where the exporter is not to be found."""
    assert 1 == check(["--config.file=/dev/null", "--web.listen-address=127.0.0.1:1"])
    assert "Connection refused" in capsys.readouterr().err

    assert 1 == check([f"--config.file={tmp_path}/none.yml"])
    assert "cannot read" in capsys.readouterr().err


def test_the_address_may_come_from_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exporter that has its address from the environment, which the check shares, is found there."""
    with exporter(tmp_path) as (_pid, (address, *others)):
        monkeypatch.setenv(
            "SALT_EXPORTER_WEB_LISTEN_ADDRESS", address.partition("=")[2].replace("127.0.0.1", "0.0.0.0")
        )

        assert 0 == check(others)
