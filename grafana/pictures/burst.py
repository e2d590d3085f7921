"""Publish big jobs to one minion as fast as the master takes them: a program for Salt's own Python.

    python3 burst.py <config dir of the master> <minion> <number of jobs> <bytes in each>

Every subscriber of the publish port receives every job, whoever is meant: a minion that does not read fills its queue.
"""

from __future__ import annotations

import sys

import salt.client


def main(config_dir: str, minion: str, number: int, size: int) -> None:
    """Publish; nobody waits for the returns."""
    client = salt.client.LocalClient(f"{config_dir}/master")
    for _ in range(number):
        client.run_job(minion, "hashutil.digest", ["x" * size])  # which returns a few bytes


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
