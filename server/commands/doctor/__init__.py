"""`understudy doctor`: checks of this machine and of a running server."""
