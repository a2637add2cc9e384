"""Bytes and words of the wire: no I/O, no torch."""
