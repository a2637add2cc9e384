"""Sockets, TLS and rate limits, for games and for HTTP."""
