"""`understudy chaos`: nothing is lost while processes are killed at random."""
