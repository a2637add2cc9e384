"""The games' side, without torch: games in processes, their evaluation, exported policies."""
