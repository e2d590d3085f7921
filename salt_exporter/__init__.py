"""Prometheus exporter for Salt masters that finds, measures and explains lost Salt messages."""

__version__ = "0.1.0"
