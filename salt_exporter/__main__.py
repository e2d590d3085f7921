"""`python -m salt_exporter` is the same as `salt-exporter`."""

from salt_exporter.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
