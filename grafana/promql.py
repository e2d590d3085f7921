"""PromQL that recurs: counters as rates of what is shown, or as what came together in the time range."""

from __future__ import annotations


def per_second(counter: str, *labels: str) -> str:
    """Return the rate of a counter per second, by labels."""
    return f"sum{_by(labels)} (rate({matched(counter)}[$__rate_interval]))"


def per_minute(counter: str, *labels: str) -> str:
    """Return the rate of a counter per minute, by labels: the unit for what happens less than once a second."""
    return f"60 * {per_second(counter, *labels)}"


def in_range(counter: str, *labels: str) -> str:
    """Return what a counter grew by in the time range shown, by labels."""
    return f"sum{_by(labels)} (increase({matched(counter)}[$__range]))"


def quantile(share: float, histogram: str, *labels: str) -> str:
    """Return the value that a share of the observations was below; nothing, instead of NaN, where there were none."""
    name, brace, matchers = histogram.partition("{")
    return f"histogram_quantile({share}, {per_second(f'{name}_bucket{brace}{matchers}', *labels, 'le')}) >= 0"


def absent_share() -> str:
    """Return the share of its accepted minions that a master misses, or that all members of a master cluster miss.

    All members accept the same minions and each is connected to one of them: what is there adds up (alerts/
    salt.rules.yml, which does the same for all masters of a job).
    """
    cluster = "on (job, instance) salt_master_cluster_info{MASTER}"
    accepted = f"max by (job) (sum without (state) (salt_presence_minions{{MASTER}}) and {cluster})"
    there = f'sum by (job) (salt_presence_minions{{MASTER,state!="not_present"}} and {cluster})'
    return (
        'sum without (state) (salt_presence_minions{MASTER,state="not_present"}) '
        f"/ sum without (state) (salt_presence_minions{{MASTER}}) unless {cluster} "
        f"or clamp_min({accepted} - {there}, 0) / {accepted}"
    )


def with_any(rate: str, counter: str, *labels: str) -> str:
    """Return those series of `rate` whose counter has grown in the time range; the others would only be lines at 0."""
    return f"{rate} and on ({', '.join(labels)}) ({in_range(counter, *labels)} > 0)"


def matched(series: str) -> str:
    """Return the selector with the matchers of the dashboard's variables put first."""
    name, _, matchers = series.partition("{")
    return f"{name}{{MASTER,{matchers}" if matchers else f"{name}{{MASTER}}"


def _by(labels: tuple[str, ...]) -> str:
    return f" by ({', '.join(labels)})" if labels else ""
