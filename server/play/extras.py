"""How to install an extra of pyproject.toml, for messages where a package of it is missing."""

from __future__ import annotations


def how_to_install(extra: str) -> str:
    """The instruction for where a package of this extra cannot be imported."""
    return (
        f"install understudy with the extra {extra}, in a checkout: .venv/bin/python -m pip "
        f'install --constraint constraints.txt --editable ".[games,{extra}]"'
    )
