"""The trainer process: from the rings to the replay, the learner and the weights."""
