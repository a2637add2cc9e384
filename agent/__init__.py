"""What learns: decisions, replay, networks, the learner. Knows no sockets."""
