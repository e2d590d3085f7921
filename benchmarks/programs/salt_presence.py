"""What `manage.not_present` does, without starting Salt anew each time: for Salt's own Python.

    python3 salt_presence.py <config dir of the master>

Each line on standard input is answered with the list, as JSON (salt/runners/manage.py, `list_not_state`).
"""

from __future__ import annotations

import json
import sys

import salt.config
import salt.key
import salt.utils.minions


def main(config_dir: str) -> None:
    """Load what can be kept, say so, and answer until standard input ends."""
    opts = salt.config.master_config(f"{config_dir}/master")
    minions = salt.utils.minions.CkMinions(opts)
    print("ready", flush=True)
    for _line in sys.stdin:
        connected = minions.connected_ids()
        with salt.key.get_key(opts) as key:
            accepted = key.list_keys()[key.ACC]
        print(json.dumps([minion for minion in accepted if minion not in connected]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
