"""Games that are all load: many connections from one thread."""
