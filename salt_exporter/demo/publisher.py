"""Publish small jobs to all minions, one after the other: a program for Salt's own Python.

    python3 publisher.py <config dir of the master> <seconds between jobs>

One process with one LocalClient, because each start of the `salt` command costs a second of CPU time.
"""

from __future__ import annotations

import sys
import time
from itertools import cycle

import salt.client
import salt.exceptions

_JOBS = (
    ("test.ping", ()),
    ("test.arg", ("hello",)),
    ("grains.get", ("os",)),
    ("cmd.run", ("echo hello",)),
)


def main(config_dir: str, interval: float) -> None:
    """Publish for ever; nobody here waits for the returns, they are on the event bus for the exporter."""
    client = salt.client.LocalClient(f"{config_dir}/master")
    for function, arguments in cycle(_JOBS):
        try:
            client.run_job("*", function, arguments)
        except salt.exceptions.SaltException as error:
            print(f"{function} was not published: {error}", flush=True)
        time.sleep(interval)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
