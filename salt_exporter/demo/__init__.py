"""`salt-exporter demo`: a private, real Salt master with minions to look at, and the lab the tests share with it."""

from salt_exporter.demo.demo import DemoSettings, run_demo

__all__ = ["DemoSettings", "run_demo"]
