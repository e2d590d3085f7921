"""Publish jobs of given sizes in random order: a program for Salt's own Python.

publisher.py <config dir of the master> <target> <number of jobs> <seconds between jobs> <size>...
"""

from __future__ import annotations

import random
import sys
import time

import salt.client


def main(config_dir: str, target: str, number: int, interval: float, sizes: list[int]) -> None:
    """Publish as a user's program would, without waiting for the returns; say how many, and end."""
    client = salt.client.LocalClient(f"{config_dir}/master")
    order = random.Random(5)  # noqa: S311 - the same sizes in each run
    for _ in range(number):
        client.pub(target, "test.arg", ["x" * order.choice(sizes)])
        time.sleep(interval)
    print(f"published {number}", flush=True)  # noqa: T201 - that is the answer


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), [int(size) for size in sys.argv[5:]])
