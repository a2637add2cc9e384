"""What others may see of a run: metrics, status, warnings. It observes and decides nothing."""
