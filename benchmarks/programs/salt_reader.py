"""Reads a master's event bus with Salt's own client, for Salt's own Python: `salt_reader.py <config dir>`.

Each line on standard input is a number of events to read, answered as `reader.py` does.
"""

from __future__ import annotations

import sys
import time

import salt.config
import salt.utils.event

_PATIENCE = 60  # seconds


def main(config_dir: str) -> None:
    """Connect, say so, and read until standard input ends."""
    opts = salt.config.master_config(f"{config_dir}/master")
    with salt.utils.event.get_event("master", opts=opts, listen=True) as bus:
        bus.connect_pub()
        print("ready", flush=True)
        for line in sys.stdin:
            found, before = 0, time.process_time()
            while found < int(line) and bus.get_event(wait=_PATIENCE, full=True, auto_reconnect=False):
                found += 1
            print(found, 0, time.process_time() - before, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
