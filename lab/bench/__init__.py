"""`understudy bench`: speed of serving, replay and learner."""
