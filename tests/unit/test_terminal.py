"""Text that came from outside is never markup: what a terminal shows is what came."""

from __future__ import annotations

import ast
import io
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from server.run.logs import logged
from server.terminal import terminal
from server.tui.live_table import Screen

ROOT = Path(__file__).parents[2]

HOSTILE = ("[/x]", "[red]", "[link=http://a.example]", ":smile:", "[/]")
"""Names that a client may choose for its game. The first raises an error where it is markup."""

MARKUP = re.compile("markup|Console|TextColumn|Panel")
"""Words of which every call that may take text for markup has one."""

PACKAGES = ("server", "lab", "config", "agent", "protocol", "scripts")


def calls() -> Iterator[tuple[str, ast.Call, str]]:
    """Each call in the modules that may have such a call: module, call, and the name called."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            text = path.read_text()
            for node in ast.walk(ast.parse(text)) if MARKUP.search(text) else ():
                if isinstance(node, ast.Call):
                    name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                    yield str(path.relative_to(ROOT)), node, name


def wrong(module: str, call: ast.Call, name: str) -> str:
    """Why this call may take text for markup; empty if it cannot."""
    given = {word.arg: word.value for word in call.keywords}
    markup = given.get("markup")
    if name == "from_markup" or (isinstance(markup, ast.Constant) and markup.value is not False):
        return "text is taken for markup"
    if name == "Console" and module != "server/terminal.py":
        return "use server.terminal.terminal: its console takes no text for markup"
    if name == "TextColumn" and markup is None:
        return "a column of a progress bar takes text for markup without markup=False"
    if name == "Panel":
        for word in {"title", "subtitle"} & given.keys():
            value = given[word]
            if not (isinstance(value, ast.Call) and getattr(value.func, "id", "") == "Text"):
                return f"a panel takes its {word} for markup where it is no Text"
    return ""


def test_no_module_gives_rich_text_that_it_may_take_for_markup() -> None:
    found = [f"{module}:{call.lineno}: {why}"
             for module, call, name in calls() if (why := wrong(module, call, name))]  # fmt: skip
    assert not found, "\n".join(found)


@pytest.mark.parametrize("code", [
    "Console()", "TextColumn('{task.fields[note]}')", "Panel('', title=name)",
    "Panel('', subtitle='x')", "Text.from_markup(name)", "print(name, markup=True)",
])  # fmt: skip
def test_markup_check_detects_what_takes_markup(code: str) -> None:
    call = ast.parse(code).body[0].value  # type: ignore[attr-defined]
    assert wrong("server/x.py", call, getattr(call.func, "id", getattr(call.func, "attr", "")))


@pytest.mark.parametrize("name", HOSTILE)
def test_terminal_prints_hostile_names_as_they_are(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = Table(title=name)
    table.add_column(name)
    table.add_row(name)
    console = terminal()
    console.print(name)
    console.print(table)
    assert capsys.readouterr().out.count(name) == 4


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("live", [True, False])
def test_screen_shows_hostile_names_as_they_are(name: str, live: bool) -> None:
    """Whatever the console takes for markup."""
    out = io.StringIO()
    console = Console(file=out, width=160, force_terminal=live, color_system=None)
    screen = Screen(console, f"title {name}", frames=10)
    screen.warning = lambda: f"warning {name}"
    screen.hint(f"hint {name}")
    screen.say(f"said {name}")
    screen.note(f"note {name}")
    if live:
        console.print(screen._render())
    shown = ("title", "warning", "hint", "said", "note") if live else ("note",)
    for word in shown:
        assert f"{word} {name}" in out.getvalue()


@pytest.mark.parametrize("name", HOSTILE)
def test_log_on_a_terminal_shows_hostile_names_as_they_are(name: str, tmp_path: Path) -> None:
    out = io.StringIO()
    console = Console(file=out, width=160, force_terminal=True, color_system=None)
    with logged(tmp_path / "log", console):
        logging.getLogger("gateway-0").info("a game %s connected", name)
    assert f"a game {name} connected" in out.getvalue()
