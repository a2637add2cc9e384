"""A person at the controls of a game: the window, the keys, and who plays now."""
