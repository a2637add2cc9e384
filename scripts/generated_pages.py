"""Pages of docs/ that are made from the code: `python -m scripts.generated_pages` writes them.

docs/commands.md comes from the commands' own parsers, docs/layout.md from the modules' docstrings,
docs/configuration.md from the settings, docs/metrics.md from the registry of metrics, and the
dashboard's help from docs/student-is-bad.md. A test fails where a page differs from what is made
here.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Callable
from pathlib import Path

from markdown_it import MarkdownIt

from config.docs import page as configuration_page
from config.fields import groups
from server.cli import COMMANDS, parser_for
from server.monitor.metrics_doc import document as metrics_page

ROOT = Path(__file__).parent.parent
MADE = "<!-- Made by `python -m scripts.generated_pages`. Edit {source} instead. -->"

PACKAGES = ("protocol", "config", "agent", "server", "lab")
"""The top-level packages, those that know nothing of the others first."""

# Commands.

GROUPS: dict[str, tuple[str, ...]] = {
    "Run a server": (
        "serve",
        "set",
        "control",
        "runs",
        "inspect",
        "compare",
        "config",
        "doctor",
        "cluster",
    ),
    "Play games": ("play", "demo", "demo-mame"),
    "Demonstrations and exported policies": ("record", "import", "pretrain", "export"),
    "Test and measure": ("conformance", "audit", "chaos", "fuzz", "soak", "bench", "study", "tune"),
}
"""The order of the page."""

EXAMPLES: dict[str, str] = {
    "serve": """\
# Run until Ctrl-C or SIGTERM.
understudy serve --port 7777 --run runs/first
# Continue that run: its settings, newest checkpoint, replay, schedules and counters.
understudy serve --resume runs/first
# Continue from the checkpoint that evaluated best.
understudy serve --resume runs/first --best
# Begin a new run with the weights of another one, as far as they fit.
understudy serve --run runs/second --init-from runs/first
# Play without training.
understudy serve --resume runs/first --no-train
""",
    "cluster": """\
# The nodes of this machine's cluster, and what servers run there.
understudy cluster status
# Whether a second learner pays for a run's network, on the nodes of this machine's cluster.
understudy cluster measure --run runs/first
""",
    "set": """\
# Change settings of a running server (all or nothing).
understudy set --run runs/first expert.ratio=0.2 learner.learning_rate=1e-4
""",
    "control": """\
# Pause and resume training, save, evaluate, or send settings to the games.
understudy control --run runs/first pause
understudy control --run runs/first resume
understudy control --run runs/first checkpoint
understudy control --run runs/first evaluate
understudy control --run runs/first games start_level=3
""",
    "inspect": """\
# What a run holds, and whether all checksums are right.
understudy inspect runs/first
""",
    "runs": """\
# The runs in runs/, those with the newest numbers first.
understudy runs
# The same of other folders, for a program.
understudy runs /var/lib/understudy --json
""",
    "compare": """\
# Two runs side by side: evaluations and training returns by frames, and the settings that differ.
understudy compare runs/first runs/second
# Other numbers: any metric.
understudy compare runs/first runs/second --curve loss --curve td_err_mean_dqn
""",
    "config": """\
# Every setting, its value and its source.
understudy config show
# The same as a file. Keep the lines that you want to change, and pass the file with --config.
understudy config show --toml > understudy.toml
understudy config show --config understudy.toml
""",
    "doctor": """\
# Is this machine fit for a server?
understudy doctor
# Can a game play with a running server, and if not, at which step does it fail?
understudy doctor --connect 127.0.0.1:7777
""",
    "play": """\
# Eight games, each a client in its own process.
understudy play --env LunarLander-v3 --clients 8 --connect 127.0.0.1:7777
# Evaluate the network alone, without exploration. Nothing is stored.
understudy play --env LunarLander-v3 --role eval --episodes 20
# Train, and every 2,000 frames stop to evaluate the network (the first time also the expert).
understudy play --env LunarLander-v3 --clients 8 --frames 30000 --eval-every 2000
# Play with an exported policy: no server, no torch.
understudy play --policy policy.onnx --env LunarLander-v3 --episodes 20
""",
    "demo": """\
scripts/demo --frames 5000 --clients 4 --seed 1 --json
""",
    "demo-mame": """\
scripts/demo-mame
""",
    "record": """\
# Record an expert or a person.
understudy record --env LunarLander-v3 --episodes 20 --out demo.npz
""",
    "import": """\
# Add a recording to a new or an existing run.
understudy import demo.npz --run runs/taught
""",
    "pretrain": """\
# Learn from the run's demonstrations before any game connects.
understudy pretrain --run runs/taught --updates 5000
""",
    "export": """\
# Write the network as an ONNX file.
understudy export --run runs/taught --onnx policy.onnx
""",
    "conformance": """\
# Does a client keep to the protocol?
understudy conformance --listen 127.0.0.1:7777
# Does a server? Give it a run of its own.
understudy conformance --connect 127.0.0.1:7777
""",
    "audit": """\
# Compare the tags of a million steps, row by row, with what the games saw.
understudy audit --steps 1000000 --json
""",
    "chaos": """\
# Kill processes at random while games play, and account for every step.
understudy chaos --minutes 3
""",
    "fuzz": """\
# Does the server survive hostile input? Exit code 1 if not.
understudy fuzz --streams 100000 --connections 1000
""",
    "soak": """\
# Is the server after 20 minutes of full load as fast and as large as at first?
understudy soak --minutes 20
""",
    "bench": """\
# How fast this machine serves, stores and learns: one line of JSON for each case.
understudy bench serving --clients 8 32
""",
    "study": """\
# Compare variants over seeds. Runs that are complete in results/ are not repeated.
understudy study --list
# Is a student ever worse off with a teacher than without one? About an hour on two cores.
understudy study
understudy study teacher
# Compare settings on any game with any expert: tables and pictures in studies/LunarLander-v3.
understudy study --env LunarLander-v3 --variant default --variant alone:expert=none
understudy study --env LunarLander-v3 --variant far:learner.n_step=8,learner.gamma=0.98
""",
    "tune": """\
# Search the default settings for a game; tuned/LunarLander-v3/best.toml is the result.
understudy tune --env LunarLander-v3 --trials 30 --frames 20000
understudy serve --config tuned/LunarLander-v3/best.toml
# A game and an expert of your own, in mygame.py; one setting is searched.
understudy tune --env mygame:MyGame-v0 --expert mygame:expert --search learner.gamma=0.9..0.999
""",
}

COMMANDS_INTRO = f"""\
# Commands

{MADE.format(source="the commands' parsers, or the examples in scripts/generated_pages.py")}

In a checkout, run `.venv/bin/understudy`; `understudy` works too after `source .venv/bin/activate`.
`understudy --help` lists the commands, and each has `--help`. `understudy --version` prints the
version.

Exit codes: 0 for success; 1 for failure; 2 for wrong options or settings; 75 if what is in the way
may be over soon and the command is worth another try ([which](operating.md#exit-codes)); 130 after
Ctrl-C in a command that does not handle it.

Scripts install what they need into `.venv` and then run a command: `scripts/demo`,
`scripts/demo-mame`, `scripts/bench`, `scripts/study`, `scripts/chaos`, `scripts/fuzz` and
`scripts/soak`. [CONTRIBUTING.md](../CONTRIBUTING.md) has those for work on the code, such as
`scripts/test` and `scripts/lint`.
"""


def commands_page() -> str:
    """docs/commands.md: each command with an example, its arguments and its options."""
    parts = [COMMANDS_INTRO]
    for title, names in GROUPS.items():
        parts.append(f"## {title}\n")
        parts += [_command(name) for name in names]
    return "\n".join(parts)


def _command(name: str) -> str:
    parser = parser_for(name)
    settings = {group.title for group in parser._action_groups} >= set(groups())
    arguments = [
        action
        for group in parser._action_groups
        if not (settings and group.title in {*groups(), "configuration"})
        for action in group._group_actions
        if not isinstance(action, argparse._HelpAction) and action.help != argparse.SUPPRESS
    ]
    about = parser.description or COMMANDS[name][1]
    parts = [f"### {name}\n", f"{_sentence(about)}\n", f"```sh\n{EXAMPLES[name]}```\n"]
    if arguments:
        formatter = parser._get_formatter()
        rows = "".join(
            f"| {_spelling(each)} | {_meaning(each, formatter)} |\n" for each in arguments
        )
        parts.append(f"| option | meaning |\n|---|---|\n{rows}")
    if settings:
        preset = parser.get_default("config_preset")
        default = f" (the default is `{preset}`)" if preset else ""
        parts.append(
            f"Also takes every [setting](configuration.md), `--config FILE`, `--resume DIR` and "
            f"`--preset NAME`{default}.\n"
        )
    return "\n".join(parts)


def _spelling(action: argparse.Action) -> str:
    """How an argument is written, with what follows it."""
    if action.metavar:
        value = str(action.metavar)
    elif action.choices:
        value = "|".join(each for each in action.choices if isinstance(each, str))
    else:
        value = action.dest.upper()
    value = {"?": f"[{value}]", "*": f"[{value} ...]", "+": f"{value} ...", 0: ""}.get(
        action.nargs if action.nargs is not None else 1, value
    )
    written = " ".join([", ".join(action.option_strings), value]).strip()
    return f"`{written}`".replace("|", "\\|")


def _meaning(action: argparse.Action, formatter: argparse.HelpFormatter) -> str:
    needed = "required; " if action.required and action.option_strings else ""
    return _cell(needed + (formatter._expand_help(action) if action.help else ""))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "\\<")


def _sentence(text: str) -> str:
    text = " ".join(text.split()).replace("<", "\\<").replace("*", "\\*")
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?")) else ".")


# Layout.

LAYOUT_INTRO = f"""\
# Layout

{MADE.format(source="the first sentence of a module's docstring")}

Every module, and what is in it. A package imports only packages above it on this page; inside
`server/`, the contract in `pyproject.toml` says which, and `scripts/lint` checks it.
[design.md](design.md) follows a frame, a tag, a setting and a metric through them.

Beside the packages: `clients/` has a folder for each client library, `scripts/` what is run from a
checkout, `tests/` the tests (`unit`, `integration`, `e2e`, and `support` with what they share),
`docs/` these pages, `deploy/` files for systemd, Prometheus and Grafana, and `results/` the results
of studies.

The package names are generic, so understudy is an application: installed editable or in a
container, and never published as a library. `clients/python/` is a distribution of its own,
`understudy-client`.
"""


def layout_page() -> str:
    """docs/layout.md: a table for each package."""
    parts = [LAYOUT_INTRO]
    for top in PACKAGES:
        for init in sorted((ROOT / top).rglob("__init__.py")):
            package = init.parent.relative_to(ROOT)
            level = "##" if str(package) == top else "###"
            parts.append(f"{level} `{package}/`\n\n{first_sentence(init)}\n")
            modules = [path for path in sorted(init.parent.glob("*.py")) if path != init]
            if modules:
                rows = "".join(f"| `{path.name}` | {first_sentence(path)} |\n" for path in modules)
                parts.append(f"| module | contents |\n|---|---|\n{rows}")
    return "\n".join(parts)


def first_sentence(module: Path) -> str:
    """The first sentence of a module's docstring, for a table."""
    text = ast.get_docstring(ast.parse(module.read_text()))
    if not text:
        raise ValueError(f"{module.relative_to(ROOT)}: expected a docstring, got none")
    paragraph = " ".join(text.split("\n\n")[0].split())
    found = re.match(r".*?[.?](?= [A-Z`]|$)", paragraph)
    return _cell(found[0] if found else paragraph)


# Help on the dashboard.

HELP = """\
<!doctype html>
{made}
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark">
    <title>The student is bad – understudy</title>
    <link rel="icon" href="/static/icon.svg" type="image/svg+xml">
    <link rel="stylesheet" href="/static/style.css">
  </head>
  <body>
    <main class="help">
<p><a href="/">← The dashboard</a></p>
{content}
    </main>
  </body>
</html>
"""


def help_page() -> str:
    """docs/student-is-bad.md for the dashboard, which has none of the other pages: they are named
    where they were linked."""
    text = (ROOT / "docs/student-is-bad.md").read_text()
    text = re.sub(r"\[([^]]+)\]\(([\w./-]+)(#[\w-]+)?\)", r"\1 (`docs/\2`)", text)
    content = MarkdownIt().enable("table").render(text)
    content = content.replace("<table>", '<div class="scroll" tabindex="0"><table>')
    content = content.replace("</table>", "</table></div>")
    return HELP.format(made=MADE.format(source="docs/student-is-bad.md"), content=content)


GENERATED: dict[str, Callable[[], str]] = {
    "docs/commands.md": commands_page,
    "docs/layout.md": layout_page,
    "docs/configuration.md": configuration_page,
    "docs/metrics.md": metrics_page,
    "server/web/dashboard/student-is-bad.html": help_page,
}
"""Page to what makes it."""


def main() -> None:
    """Write every page."""
    for name, make in GENERATED.items():
        (ROOT / name).write_text(make())


if __name__ == "__main__":
    main()
