"""The supervisor process: it starts the others, restarts them and decides the game."""
