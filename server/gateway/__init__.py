"""The gateway process: it answers each frame of each game."""
