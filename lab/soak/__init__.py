"""`understudy soak`: a long time under full load."""
