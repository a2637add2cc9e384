"""The run's folder: what is written there and what is read again."""
