"""The effective configuration for a person or a program, with the source of each value."""

from __future__ import annotations

import json

from rich.console import Console
from rich.table import Table
from rich.text import Text

from config.fields import all_settings, flat
from config.load import Loaded, to_toml, unsaved

WIDE = 160
"""Columns where the output is no terminal: a line of a file is a line of the table."""


def table(loaded: Loaded, console: Console) -> None:
    """Print a line for each field: key, value, unit, source."""
    if not console.is_terminal:
        console.width = WIDE
    out = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("key", "value", "unit", "from"):
        out.add_column(heading, overflow="fold")
    values = flat(loaded.config)
    for key, setting in all_settings().items():
        origin = loaded.origins[key]
        style = "dim" if origin == "default" else ""
        # Text: a value with square brackets is not markup.
        cells = (key, setting.show(values[key]), setting.unit, origin)
        out.add_row(*(Text(cell) for cell in cells), style=style)
    console.print(out)


def to_json(loaded: Loaded) -> str:
    """An object with `value` and `origin` for each key; no value is null, a secret is stars."""
    known, out = all_settings(), {}
    for key, value in flat(loaded.config).items():
        plain = None if value is None else known[key].plain(value)
        out[key] = {"value": plain, "origin": loaded.origins[key]}
    return json.dumps(out, indent=2, ensure_ascii=False)


def toml(loaded: Loaded) -> str:
    """The configuration as a file that --config reads; what it leaves out, because each start is
    told anew, stands in comments."""
    values = flat(loaded.config)
    known = all_settings()
    notes = "".join(
        f"# {key} = {json.dumps(known[key].plain(values[key]))}\n" for key in unsaved(loaded.config)
    )
    return notes + to_toml(loaded.config)
