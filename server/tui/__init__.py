"""The live table in a terminal, and its keys."""
