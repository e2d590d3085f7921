"""Publish jobs as a user's program would, without waiting for returns: a program for Salt's own Python.

publish.py <[[target,...], function, [argument,...], times] as JSON>...: prints the job ids, one in each line.
"""

from __future__ import annotations

import json
import sys

import salt.client


def main(jobs: list[str]) -> None:
    """Publish them in their order."""
    client = salt.client.LocalClient()
    for job in jobs:
        targets, function, arguments, times = json.loads(job)
        for _ in range(times):
            print(client.run_job(targets, function, arguments, tgt_type="list")["jid"], flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
