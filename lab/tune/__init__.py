"""`understudy tune`: a search for the settings that suit a game."""
