"""What runs: gateway, trainer, supervisor, and the commands."""
