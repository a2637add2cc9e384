"""What the processes share, and what they say to each other: shared memory, pipes, heartbeats."""
