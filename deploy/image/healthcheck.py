# ruff: noqa: INP001 - a script that is copied into the image
"""Exit 0 if this container's exporter answers; exit 1 and say why if it does not.

It is asked where its own flags, variables and file tell it to listen. That it answers is all there is to know: a 401
of one that has users, or a refusal during the TLS handshake by one that wants a client certificate, is an answer too.
"""

from __future__ import annotations

import os
import ssl
import sys
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path

import psutil

from salt_exporter import cli, config

TIMEOUT = 2.0  # seconds for each of the two ways to ask
EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # an address to listen on → one to connect to


def arguments() -> list[str]:
    """Return the exporter's command line. Other containers may be in sight, but their files are not ours."""
    ours = Path("/proc/self/ns/mnt").readlink()
    for process in psutil.process_iter():
        try:
            program, *words = process.cmdline()[1:]  # after the Python that runs it
            if Path(program).name == "salt-exporter" and Path(f"/proc/{process.pid}/ns/mnt").readlink() == ours:
                return words
        except (OSError, ValueError, psutil.Error):  # nothing of ours: it has ended, has no arguments or another owner
            continue
    raise LookupError("no salt-exporter runs in this container")


def ask(connection: HTTPConnection) -> int:
    """Return the status of an answer."""
    with closing(connection):
        connection.request("GET", "/-/healthy")
        return connection.getresponse().status


def answers(host: str, port: int) -> bool:
    """Tell whether an exporter listens there that does its work, with TLS or without. Raises OSError."""
    try:
        return ask(HTTPConnection(host, port, timeout=TIMEOUT)) < 500
    except (HTTPException, ConnectionError):  # what a server with TLS makes of a request without
        unverified = ssl._create_unverified_context()  # noqa: S323, SLF001 - whose certificate it is does not matter
    secure = HTTPSConnection(host, port, timeout=TIMEOUT, context=unverified)
    with closing(secure):
        try:
            secure.connect()
        except ssl.SSLError as refusal:
            return "ALERT" in str(refusal.reason)  # it wants to see a certificate
        try:
            return ask(secure) < 500
        except (ssl.SSLError, ConnectionError):  # in TLS 1.3 it refuses only now, with an alert or without a word
            return True


def main() -> int:
    """Ask the exporter at the first of its addresses."""
    try:
        options = cli.parser().parse_args(arguments())
        host, port = config.load(vars(options), os.environ).web_listen_address[0]
        healthy = answers(EVERYWHERE.get(host, host), port)
    except (LookupError, OSError, HTTPException, config.ConfigError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0 if healthy else 1


if __name__ == "__main__":
    sys.exit(main())
