"""What Salt says: the master's settings, keys, caches and event bus. Knows Salt's formats, no metrics."""
