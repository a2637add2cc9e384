"""What the documents promise: commands that parse, settings that exist, links that resolve, figures
that follow from the code, and a first game that runs as it is printed."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml

from agent.advantage import Mode, advantage_weights
from agent.replay import Replay
from config.fields import all_settings, groups
from config.load import ConfigError, combine, environment_layer, load, toml_layer
from config.options import given, parse
from config.renamed import KEYS
from protocol.actor import Actor
from protocol.spaces import Discrete, GameSpec, Observation
from scripts.generated_pages import GENERATED
from server.cli import COMMANDS, main, parser_for
from server.monitor.metrics import SERIES
from tests.support.display import xvfb
from tests.support.markdown import ROOT, blocks, broken_links, spans
from tests.support.preloaded import Understudy, completed

README = ROOT / "README.md"
DESIGN = ROOT / "docs/design.md"
BENCHMARKS = ROOT / "docs/benchmarks.md"
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("protocol/*.md"),
        *ROOT.glob("clients/*/*.md"),
    ]
)
PACKAGES = sorted(
    str(path.parent.relative_to(ROOT))
    for top in ("protocol", "config", "agent", "server", "lab")
    for path in (ROOT / top).rglob("__init__.py")
)

each_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=[str(path.relative_to(ROOT)) for path in DOCUMENTS]
)


# Markdown, as far as it is needed here.


def lua_variables() -> set[str]:
    """What the client for MAME reads from the environment."""
    code = (ROOT / "clients/mame/understudy.lua").read_text()
    return {f"UNDERSTUDY_{name}" for name in re.findall(r'\b(?:env|number)\("([A-Z_]+)"', code)}


# Commands, as a shell would see them.


def commands(text: str) -> list[str]:
    """Lines of shell blocks, and inline code, that run something of this project."""
    lines = [line for block in blocks(text, "sh") for line in block.splitlines()]
    lines = [line.removeprefix(".venv/bin/") for line in lines]
    ours = ("understudy ", "scripts/", ".ci/", "python -m ")
    # As another user, as the service's commands are run.
    lines = [re.sub(r"^sudo (-u understudy|env PATH=\S+) /opt/understudy/(\.venv/bin/)?", "", line)
             for line in lines]  # fmt: skip
    # Text may call a command by its name alone, without what it must be given.
    inline = [span for span in spans(text) if span.removeprefix("understudy ") not in COMMANDS]
    found = [line for line in lines + inline if line.startswith(ours)]
    return [line for line in found if line not in ours]  # the folder itself is no command


def check(command: str) -> None:
    """Raise unless the command could be run: it exists, and its options are real."""
    program, *words = shlex.split(command, comments=True)
    if ">" in words:  # into a file
        assert len(words) == words.index(">") + 2
        words = words[:-2]
    if words and words[0] == "…":  # all of a kind
        return
    if program == "understudy":
        name, *options = words
        _parse(name, options)
    elif program == "python":
        module = words[1]
        assert find_spec(module), f"{command}: no module {module}"
    else:
        path = ROOT / program
        assert path.is_file(), f"{command}: no {program}"
        if path.suffix != ".py":
            assert os.access(path, os.X_OK), f"{command}: not executable"
        if path.name in COMMANDS:
            _parse(path.name, words)


def _parse(name: str, options: list[str]) -> None:
    if name in ("--version", "--help"):
        return
    assert name in COMMANDS, f"there is no command {name!r}"
    args = parse(parser_for(name), options)
    if hasattr(args, "config_file"):
        # The values too; the files and runs that are named are the reader's.
        load(replace(given(args), file=None, resume=None), {})


@each_document
def test_documented_commands_can_be_run(document: Path) -> None:
    if document.name == "layout.md":
        return  # made of docstrings, which name commands by a part of them
    for command in commands(document.read_text()):
        try:
            check(command)
        except SystemExit:
            pytest.fail(f"{document.name}: wrong options: {command}")


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ("understudy train", AssertionError),
        ("understudy serve --prt 7000", ConfigError),
        ("understudy serve --port seven", ConfigError),
        ("understudy play --connect host:port", SystemExit),
        ("understudy config list", SystemExit),
        ("understudy config list > understudy.toml", SystemExit),
        ("scripts/nothing", AssertionError),
        ("sudo -u understudy /opt/understudy/.venv/bin/understudy steer", AssertionError),
        ("scripts/demo --frame 3", ConfigError),
        ("scripts/../README.md", AssertionError),
        ("python -m server.nothing", AssertionError),
    ],
)
def test_unrunnable_command_is_detected(wrong: str, error: type[BaseException]) -> None:
    (command,) = commands(f"```sh\n{wrong}\n```\n")
    assert wrong.endswith(command)
    with pytest.raises(error):
        check(command)


def test_version_option_prints_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert re.fullmatch(r"understudy \d+\.\d+\S*\n", capsys.readouterr().out)


def test_readme_is_short() -> None:
    assert len(README.read_text().split()) <= 900


def test_documents_name_every_script_and_folder() -> None:
    texts = [
        README,
        ROOT / "CONTRIBUTING.md",
        ROOT / "docs/commands.md",
        ROOT / "docs/operating.md",
    ]
    run = {command.split()[0] for path in texts for command in commands(path.read_text())}
    scripts = {
        f"scripts/{path.name}"
        for path in ROOT.glob("scripts/*")
        if path.is_file() and path.suffix != ".py"
    }
    inside = {"scripts/container-entry", "scripts/container-health"}  # run by a container alone
    assert run >= (scripts - inside) | {".ci/run"}
    text = (ROOT / "docs/layout.md").read_text()
    for folder in ("protocol", "config", "agent", "server", "lab", "clients/python", "docs"):
        assert f"`{folder}/`" in text


def test_commit_hooks_run_what_lint_runs() -> None:
    lint = re.findall(r"^\.venv/bin/.+$", (ROOT / "scripts/lint").read_text(), re.MULTILINE)
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert local["repo"] == "local"
    assert [hook["entry"] for hook in local["hooks"]] == lint
    assert {hook["language"] for hook in local["hooks"]} == {"system"}


@each_document
def test_documented_settings_exist(document: Path) -> None:
    text = document.read_text()
    for span in spans(text):
        if re.fullmatch(rf"({'|'.join(groups())})(\.[a-z_]+)+", span):
            name = span.rsplit(".", 1)[1]
            known = any(key == span or key.startswith(span + ".") for key in all_settings())
            renamed = document.name == "CHANGELOG.md" and span in KEYS
            assert known or renamed or name in ("py", "toml", "json", "jsonl"), f"no setting {span}"
    for variable in set(re.findall(r"UNDERSTUDY_[A-Z][A-Z_]*", text)):
        assert (
            variable in {setting.variable for setting in all_settings().values()} | lua_variables()
        )


def test_help_for_a_bad_student_names_existing_numbers_and_settings() -> None:
    """A name in it is a metric, a setting, or one of these."""
    page = (ROOT / "docs/student-is-bad.md").read_text()
    names = re.findall(r"`([a-z]+(?:[._][a-z_]+)+)", page)
    other = {"per_actor", "metrics.jsonl"}
    keys = all_settings()
    assert len(names) > 50
    for name in names:
        setting = any(key == name or key.startswith(name + ".") for key in keys)
        assert name in SERIES or setting or name in other, name


@each_document
def test_configuration_examples_are_valid(document: Path) -> None:
    for block in blocks(document.read_text(), "toml"):
        combine([toml_layer(block, document.name)])


def test_documented_variables_are_settings() -> None:
    for text in (README.read_text(), DESIGN.read_text()):
        for name, value in re.findall(r"(UNDERSTUDY_[A-Z_]+)=(\S+)", text):
            environment_layer({name: value.strip("`()")})


@each_document
def test_document_links_resolve(document: Path) -> None:
    assert broken_links(document.read_text(), document.parent) == []


def test_broken_link_is_detected() -> None:
    text = "# A title, long\n[a](#a-title-long) [b](README.md#quick-start) [c](docs) [d](https://x.invalid)\n"
    assert broken_links(text, ROOT) == []
    text += "[e](#none) [f](README.md#none) [g](nothing.md) [h](../elsewhere)\n"
    assert broken_links(text, ROOT) == ["#none", "README.md#none", "nothing.md", "../elsewhere"]


# The project stands alone.

# Put together here, so that this file does not find itself.
_OUTSIDE = re.compile(
    r"\.\./" + "shared|(?<![\\w.])/" + "work/|(?:"
    + "|".join(re.escape(name) + r"\.(?:org|io|com|dev)"
               for name in ("pypi", "pythonhosted", "pytorch", "docker", "ghcr", "nvcr", "quay",
                            "npmjs", "anaconda"))
    + ")",
)  # fmt: skip


def outside(text: str) -> list[str]:
    """Paths outside of the project, and hosts of package and image registries."""
    return _OUTSIDE.findall(text)


def test_documents_name_nothing_outside_the_project() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = {}
    for name in listed.stdout.split("\0"):
        path = ROOT / name
        if name and path.is_file() and b"\0" not in (data := path.read_bytes()):
            found[name] = outside(data.decode())
    assert "README.md" in found
    assert {name: hits for name, hits in found.items() if hits} == {}


def test_name_outside_the_project_is_detected() -> None:
    for text in (
        "see ../" + "shared/x",
        "in /" + "work/main",
        "https://download.pytorch" + ".org/",
    ):
        assert outside(text), text
    assert outside("the framework/ of docker and pytorch, ../README.md") == []


# What the documents say of the code.


@pytest.mark.parametrize("page", GENERATED)
def test_generated_page_is_up_to_date(page: str) -> None:
    assert (ROOT / page).read_text() == GENERATED[page](), "run: python -m scripts.generated_pages"


def test_layout_names_every_module() -> None:
    layout = (ROOT / "docs/layout.md").read_text()
    for package in PACKAGES:
        start = layout.index(f"# `{package}/`\n")
        section = layout[start:].split("\n##", 1)[0]
        named = {span for span in spans(section) if span.endswith(".py")}
        there = {p.name for p in (ROOT / package).glob("*.py") if p.name != "__init__.py"}
        assert named >= there, f"{package}/: docs/layout.md differs from the folder"


def test_commands_page_has_every_command_and_option() -> None:
    text = (ROOT / "docs/commands.md").read_text()
    headings = re.findall(r"^### (.+)$", text, re.MULTILINE)
    assert sorted(headings) == sorted(COMMANDS)
    assert "%(" not in text
    # Each says what it is, not only what it is by default.
    meanings = re.findall(r"^\| `.*` \| (.*) \|$", text, re.MULTILINE)
    assert len(meanings) > 100
    assert [
        one for one in meanings if re.fullmatch(r"(required; )?(default )?\(?\S*\)?", one)
    ] == []
    shown = {command.split()[1] for command in commands(text) if command.startswith("understudy ")}
    # The demos are started by their scripts.
    assert shown >= COMMANDS.keys() - {"demo", "demo-mame"}
    assert "`--eval-every FRAMES`" in text


def test_documented_files_exist() -> None:
    for document in (README, DESIGN, BENCHMARKS, ROOT / "CONTRIBUTING.md"):
        for span in spans(document.read_text()):
            if re.fullmatch(
                r"(protocol|config|agent|server|lab|scripts|tests|docs)/[\w./-]+", span
            ):
                assert (ROOT / span).exists(), f"{document.name}: no {span}"


def test_design_walks_name_existing_modules() -> None:
    """Paths, and names without a folder, in the diagrams of the design too."""
    text = DESIGN.read_text()
    paths = set(re.findall(r"\b(?:protocol|config|agent|server|lab|tests)/[\w/]+\.py\b", text))
    names = set(re.findall(r"(?<![\w/])\w+\.py\b", text))
    assert len(paths) > 40
    assert len(names) > 10
    known = {path.name for package in PACKAGES for path in (ROOT / package).glob("*.py")}
    assert [path for path in sorted(paths) if not (ROOT / path).is_file()] == []
    assert names - known == set()


def promised() -> list[str]:
    """The id at the end of each line of the tables of events in reliability.md."""
    text = (ROOT / "docs/reliability.md").read_text()
    tables = re.findall(r"^\| event \|.*\| id \|\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    lines = "".join(tables).splitlines()
    assert len(lines) >= 40
    assert len(lines) == len(re.findall(r"^\| .* \| `[a-z-]+` \|$", "\n".join(lines), re.MULTILINE))
    return [line.rstrip(" |").rpartition("`")[0].rpartition("`")[2] for line in lines]


PROMISE = "pytest.mark.promise"


def marked() -> dict[str, list[str]]:
    """The tests that carry each id: `@pytest.mark.promise(id, ...)`."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        nodes = ast.parse(path.read_text()).body
        tests = [n.name for n in nodes if isinstance(n, ast.FunctionDef) and n.name[:5] == "test_"]
        for node in nodes:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
                for mark in ast.walk(node.value):  # of all tests of the module
                    if isinstance(mark, ast.Call) and ast.unparse(mark.func) == PROMISE:
                        for word in mark.args:
                            found.setdefault(ast.literal_eval(word), []).extend(tests)
            for mark in getattr(node, "decorator_list", []):
                if ast.unparse(mark).startswith(f"{PROMISE}("):
                    assert isinstance(node, ast.FunctionDef), f"{path}: not on a test"
                    assert node.name.startswith("test_"), f"{path}: {node.name} is no test"
                    for word in mark.args:
                        found.setdefault(ast.literal_eval(word), []).append(node.name)
    return found


def test_reliability_promise_ids_are_unique() -> None:
    ids = promised()
    assert len(ids) == len(set(ids))


def test_reliability_promises_and_test_marks_match() -> None:
    assert set(promised()) == set(marked())


def test_documented_bytes_per_step_are_right() -> None:
    text = DESIGN.read_text()
    table = text[text.index("**Bytes a step**") : text.index("## The learner")]
    cells = re.findall(r"^\| .* \| \**(\d+)\** \|$", table, re.MULTILINE)
    *parts, together = [int(cell) for cell in cells]
    assert sum(parts) == together
    spec = GameSpec("bytes", Observation("float32", (195,)), (Discrete("act", 44),))
    assert Replay(spec, 1000, n_step=3, gamma=0.99).nbytes == 1000 * together


@pytest.mark.parametrize(
    ("mode", "actor", "reward", "weight"),
    [
        ("global", Actor.DQN, 0.3, "0.47"),
        ("global", Actor.EXPERT, 0.8, "9.5"),
        ("per_actor", Actor.DQN, 0.5, "12"),
        ("per_actor", Actor.DQN, 0.1, "0.08"),
        ("per_actor", Actor.EXPERT, 1.0, "12"),
        ("per_actor", Actor.EXPERT, 0.6, "0.08"),
    ],
)
def test_documented_weights_of_the_example_are_right(
    mode: Mode, actor: Actor, reward: float, weight: str
) -> None:
    """The weights that README and learning print, from rewards with the stated means and spread."""
    spread = torch.tensor([-0.12, 0.12])
    rewards = torch.cat([0.3 + spread.repeat(3000), 0.8 + spread.repeat(1000)])
    actors = torch.tensor([Actor.DQN] * 6000 + [Actor.EXPERT] * 2000)
    row = 0 if actor is Actor.DQN else 7999
    rewards[row] = reward
    found = float(advantage_weights(rewards, actors, mode=mode)[row])
    assert found == pytest.approx(float(weight), rel=0.06)
    assert f"| {weight} |" in README.read_text()
    assert weight in (ROOT / "docs/learning.md").read_text()


def test_benchmarks_end_with_the_history() -> None:
    """`understudy bench --record` appends to it."""
    text = BENCHMARKS.read_text()
    sections = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert sections[-1] == "History"
    assert text.count("<!-- latest -->") == 1


def test_benchmark_targets_name_printed_fields() -> None:
    text = BENCHMARKS.read_text()
    targets = text[text.index("## Targets") : text.index("## Latest")]
    fields = re.findall(r"\| `(\w+)` \|$", targets, re.MULTILINE)
    assert len(fields) >= 9
    code = "".join(path.read_text() for path in (ROOT / "lab" / "bench").glob("*.py"))
    assert [field for field in fields if f'"{field}"' not in code] == []


# The first game.


@contextmanager
def serving(folder: Path) -> Iterator[int]:
    """`understudy serve` on a free port: that port. It ends in order."""
    options = ["--port", "0", "--server.http_port", "0", "--run", str(folder)]
    options += ["--learner.hidden", "[16]"]
    options += ["--trainer.min_steps", "500", "--trainer.threads", "1"]
    options += ["--server.http_port", "none"]  # whoever has that port is no matter here
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = Understudy("serve", *options, **pipes)
    try:
        assert process.stdout is not None
        printed, found = "", None
        while not found and (line := process.stdout.readline()):
            printed += line
            found = re.search(r"listens on 127\.0\.0\.1:(\d+)", line)
        assert found, printed
        yield int(found[1])
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0, printed


def first_game(port: int, episodes: int) -> str:
    """The code of the game that README and start have, for this port and so many episodes."""
    (code,) = blocks(README.read_text(), "python")
    assert blocks((ROOT / "docs/start.md").read_text(), "python") == [code]
    assert len(code.split("with ")[1].splitlines()) <= 25
    for printed, here in (("7777", str(port)), ("range(1, 5001)", f"range(1, {episodes + 1})")):
        assert code.count(printed) == 1
        code = code.replace(printed, here)
    return code


def play(words: list[str], **more: str) -> str:
    """What `understudy WORDS` prints, which has nothing to complain about. `more`: of its
    environment."""
    done = completed(*words, env=os.environ | more, timeout=200)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout


@pytest.mark.timeout(400)
def test_start_page_can_be_followed_in_order(tmp_path: Path) -> None:
    """Each command with the server that was started last before it."""
    text = (ROOT / "docs/start.md").read_text()
    steps = re.findall(r"^```(?:sh|(python))\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    played = []
    with ExitStack() as running:
        port, run = 0, Path()
        for language, block in steps:
            words = block.strip().removeprefix(".venv/bin/").split()
            if language:
                done = subprocess.run(
                    [sys.executable, "-c", first_game(port, 200)],
                    cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False,
                )  # fmt: skip
                assert (done.returncode, done.stderr) == (0, ""), done.stdout
                played.append(run)
            elif words[:3] == ["understudy", "serve", "--run"]:
                running.close()  # by Ctrl-C in its terminal
                run = tmp_path / words[3]
                port = running.enter_context(serving(run))
            elif "--human" in words:  # it is a window, which nobody touches
                if shutil.which("Xvfb"):
                    words += ["--frames", "20", "--connect", f"127.0.0.1:{port}"]
                    with xvfb() as display:
                        assert "0.0% expert" in play(words[1:], DISPLAY=display)
            elif words[:2] == ["understudy", "play"]:
                # As it is printed but for how long it lasts: the options that come last hold.
                less = ["--clients", "1", "--frames", "100", "--eval-episodes", "1"]
                words += [*less, "--connect", f"127.0.0.1:{port}"]
                assert "evaluation after 0 frames" in play(words[1:])
                played.append(run)
            else:
                assert words == ["scripts/demo"]
    game, lander = (json.loads((run / "summary.json").read_text()) for run in played)
    assert game["errors"] == lander["errors"] == 0
    assert game["episodes"] == 200
    assert game["transitions_dropped"] == 0
    assert game["updates"] > 0
    # The expert's share falls once the student is as good, which it soon is in this game.
    assert min(game["buffer"]["dqn"], game["buffer"]["expert"]) > 200
