"""Checks of the container files, without a container engine: see scripts/check-container."""
