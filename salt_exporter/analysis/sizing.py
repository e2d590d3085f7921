"""How large the master's queues should be for a number of minions: rules with their sources, told in docs/operating.md.

* High-water marks: Salt's own reference configuration for 8,000 minions (doc/ref/configuration/examples, conf/master)
  gives `pub_hwm: 64000`, 8 messages a minion; never less than Salt's default of 1,000.
* `zmq_backlog`: when a master restarts all minions connect at once, so the accept queue holds one place a minion;
  at least Salt's default of 1,000, at most 65,535. (net.core.somaxconn must allow it too.)
* `worker_threads`: one a 200 minions, at least Salt's default of 5: a rule of thumb, for
  the request queue tells.
* `max_open_files`: Salt warns when accepted keys exceed a quarter of it (salt/utils/verify.py, `check_max_open_files`).
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_RULES: Final[Mapping[str, Callable[[int], int]]] = {
    "pub_hwm": lambda minions: max(1000, 8 * minions),
    "zmq_backlog": lambda minions: min(max(1000, minions), 65535),
    "worker_threads": lambda minions: max(5, ceil(minions / 200)),
    "max_open_files": lambda minions: max(100_000, 4 * minions),
}


def recommended(minions: int) -> dict[str, int]:
    """Return the advised value of each option there is a rule for, for this number of accepted minions."""
    return {option: rule(minions) for option, rule in _RULES.items()}
