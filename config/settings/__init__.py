"""A file for each group of settings; `config.models` puts them together."""
