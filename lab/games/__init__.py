"""All kinds of games, each played and learnt from against a real server."""
