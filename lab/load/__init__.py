"""Load: many clients that cost little, in one event loop."""
