"""The configuration: frozen models, and where each value came from."""
