"""Requests to a running server: from the command line, HTTP and keys."""
