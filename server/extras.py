"""What is not installed with the server: the extras of pyproject.toml."""

from __future__ import annotations


def how_to_install(extra: str) -> str:
    """What to do where a package of an extra cannot be imported."""
    return (
        f"install understudy with the extra {extra}, in a checkout: .venv/bin/python -m pip "
        f'install --constraint constraints.txt --editable ".[games,{extra}]"'
    )
