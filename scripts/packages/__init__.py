"""Pins of packages: a lock file with hashes, and what the registries say of what is pinned."""
