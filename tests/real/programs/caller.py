"""Publish jobs as a user's program would, without waiting for returns: a program for Salt's own Python.

caller.py <config dir of the master> <fifo>: for each line [target, target type, function, [argument...]] (JSON) that
comes through the FIFO it publishes a job and prints its jid.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import salt.client


def main(config_dir: str, fifo: str) -> None:
    """Publish until the FIFO is closed."""
    client = salt.client.LocalClient(f"{config_dir}/master")
    with Path(fifo).open() as lines:
        for line in lines:
            target, target_type, function, arguments = json.loads(line)
            print(client.run_job(target, function, arguments, tgt_type=target_type)["jid"], flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
