"""The commands beside the daemon: each looks once, prints, and is gone."""
