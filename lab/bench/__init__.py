"""`understudy bench`: speed of starting, serving, replay and learner."""
