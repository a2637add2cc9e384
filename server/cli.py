"""The command `understudy`."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version

from server.supervisor import fork_server

COMMANDS = {
    "serve": ("server.commands.serve", "run the server until it is stopped"),
    "play": ("server.commands.play", "run games against a server"),
    "set": ("server.commands.set", "change settings of a run while it runs"),
    "control": (
        "server.commands.control",
        "pause a running run, save or evaluate it, tell its games something",
    ),
    "record": ("server.commands.record", "write what an expert or a person plays to a file"),
    "import": ("server.commands.importing", "put recordings and Minari datasets into a run"),
    "pretrain": (
        "server.commands.pretrain",
        "learn from a run's demonstrations before any game connects",
    ),
    "inspect": ("server.commands.inspect", "show what a run's folder holds, and check all of it"),
    "runs": ("server.commands.runs", "list runs: game, frames, best evaluation, size, state"),
    "compare": (
        "server.commands.compare",
        "put the curves of runs, and the settings that differ, side by side",
    ),
    "export": ("server.commands.export", "write a run's network as an ONNX file"),
    "demo": ("server.commands.demo", "LunarLander from start to finish: play, train, evaluate"),
    "demo-mame": ("server.commands.demo_mame", "Breakout or Pong in MAME from start to finish"),
    "audit": ("lab.audit", "prove that every action is tagged with who chose it"),
    "chaos": (
        "lab.chaos.command",
        "prove that nothing is lost while processes are killed at random",
    ),
    "conformance": (
        "server.conformance.command",
        "check any server or any client against the protocol",
    ),
    "doctor": (
        "server.commands.doctor.command",
        "check this machine, or a running server from the game's side",
    ),
    "fuzz": (
        "lab.fuzz.command",
        "check that the decoder and a server survive hostile input",
    ),
    "soak": (
        "lab.soak.command",
        "check that a server stays the same under full load for a long time",
    ),
    "bench": ("lab.bench.command", "measure starting, serving, replay and learner on this machine"),
    "study": (
        "lab.study.command",
        "compare ways of learning over many seeds: tables, pictures, verdicts",
    ),
    "tune": ("lab.tune.command", "search for the settings that suit a game of your own"),
    "cluster": (
        "server.commands.cluster",
        "show a Ray cluster and its servers; say whether a second learner pays",
    ),
    "config": ("server.commands.config", "show the configuration and where each value is from"),
}
"""Command to the module that has its `add_arguments(parser)` and `main(args) -> int`. Imported
when asked for: the game side must start without torch."""


PRIVATE = ("serve", "demo", "record", "import", "pretrain", "audit", "set", "control")
"""What these write, and the processes that they start, is for the eyes of its owner alone."""


LAB = "lab"
"""The package of the commands that measure and prove: neither the wheel nor the container image has
it."""

WITHOUT_LAB = (
    "this installation does not include the test and benchmark commands; clone the repository, run "
    "scripts/install there, then .venv/bin/understudy {command}"
)


def parser_for(name: str) -> argparse.ArgumentParser:
    """The parser of one command."""
    module, text = COMMANDS[name]
    parser = argparse.ArgumentParser(prog=f"understudy {name}", description=text)
    importlib.import_module(module).add_arguments(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; its exit code. 2 for wrong arguments or configuration, 75 for what may be over
    soon (config.passing), with one message."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] and words[0] in PRIVATE:
        os.umask(0o077)
    if words[:1] == ["serve"] and not {"-h", "--help"} & {*words}:
        # Before all other imports: what the children import takes longest.
        with suppress(OSError):  # then it fails again where the children are started
            fork_server.prepare()
    return _run(words)


def _run(words: list[str]) -> int:
    """Run a command; its exit code."""
    from config.load import ConfigError
    from config.options import parse
    from config.passing import exit_code, is_passing

    top = argparse.ArgumentParser(
        prog="understudy",
        description="A training server for game AI. Each command has --help.",
        usage="understudy COMMAND [options], or understudy --version",
    )
    commands = top.add_argument_group("commands")
    for name, (_, text) in COMMANDS.items():
        commands.add_argument(name, help=text, nargs="?")
    if words[:1] == ["--version"]:
        print(f"understudy {version('understudy')}")
        return 0
    if not words or words[0] not in COMMANDS:
        if words and words[0] in ("-h", "--help"):
            top.print_help()
            return 0
        known = ", ".join(COMMANDS)
        top.print_usage(sys.stderr)
        print(f"expected a command: {known}; got {words[:1]}", file=sys.stderr)
        return 2
    try:
        module = importlib.import_module(COMMANDS[words[0]][0])  # seconds where torch is in it
        code: int = module.main(parse(parser_for(words[0]), words[1:]))
    except ModuleNotFoundError as error:
        if error.name != LAB:
            raise
        print(f"understudy {words[0]}: {WITHOUT_LAB.format(command=words[0])}", file=sys.stderr)
        return 2
    except ConfigError as error:
        print(f"understudy {words[0]}: {error}", file=sys.stderr)
        return exit_code(error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read the output has enough of it; the interpreter must not flush the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, MemoryError) as error:
        if not is_passing(error):
            raise
        print(f"understudy {words[0]}: {error or 'out of memory'}; try again", file=sys.stderr)
        return exit_code(error)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
