"""Active looks at the master, each harmless, rate-limited and switchable: what any client may send, and no more."""

from typing import Final

# Where the probes of every exporter come from. Not 127.0.0.1, by which Salt knows the minion of the master's own host
# (salt/utils/minions.py, `connected_ids`); by it nobody takes them for a minion's, whichever exporter they belong to.
SOURCE: Final = "127.0.0.2"
