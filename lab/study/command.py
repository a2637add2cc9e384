"""`understudy study`: named comparisons over games, variants of the settings, and seeds.

Runs what is missing, shows what was found, and with --report writes the page of results. A run
that is complete is never run again: stop it at any time, and go on with the same command.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from config.fields import flat
from config.load import ConfigError, load
from config.options import add_arguments as add_config
from config.options import given
from lab.study import report as study_report
from lab.study.comparisons import COMPARISONS
from lab.study.design import Comparison, Job, jobs
from lab.study.own import own_command, own_comparison
from lab.study.progress import StudyScreen
from lab.study.runner import run
from lab.study.statistics import text
from lab.study.store import FOLDER, path_of
from lab.study.store import load as load_results
from lab.study.workers import JobFailed, cores
from server.arguments import add_weaken, positive
from server.play.extras import how_to_install
from server.terminal import terminal

DOCS = Path("docs")
OWN_SEEDS = 3
WITHOUT_A_NAME = "games"
"""What is run where nothing is named."""
STUDIES = Path("studies")
"""Where comparisons of one's own are kept, in a folder for each environment."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"comparisons to run ({WITHOUT_A_NAME}, about an hour; with --full all)",
    )
    add("--list", action="store_true", help="show all comparisons and how far they are")
    add(
        "--seeds",
        type=positive,
        metavar="N",
        help="number of seeds of each variant (each comparison has its own number; with --env "
        f"{OWN_SEEDS})",
    )
    add(
        "--full",
        action="store_true",
        help="use more seeds, and more games where the comparison has them",
    )
    add(
        "--jobs",
        type=positive,
        metavar="N",
        help="number of runs at a time (as many as there are cores)",
    )
    add(
        "--results",
        type=Path,
        metavar="DIR",
        help=f"folder of the kept runs ({FOLDER}; with --env {STUDIES}/ENV/runs)",
    )
    add(
        "--report",
        nargs="?",
        type=Path,
        const=DOCS,
        metavar="DIR",
        help=f"write {study_report.PAGE} and its pictures there ({DOCS}; with --env always, "
        f"{STUDIES}/ENV); without a NAME, of all comparisons that have results, and run nothing",
    )
    add("--json", action="store_true", help="print what was found as JSON, and nothing else")
    own = parser.add_argument_group(
        "a comparison of your own",
        "of variants of the settings that you give, on any game with any expert",
    )
    own.add_argument(
        "--env", "--try", dest="env", metavar="ENV", help="play this Gymnasium environment"
    )
    own.add_argument(
        "--expert",
        metavar="MODULE:FUNCTION",
        help="an expert instead of the known one; none: no expert",
    )
    own.add_argument(
        "--variant",
        action="append",
        default=[],
        metavar="NAME:KEY=VALUE[,KEY=VALUE...]",
        help="compare this variant with the others, with settings by key (a schedule's name sets "
        "its start and its end); expert=MODULE:FUNCTION or expert=none gives it a teacher of its "
        "own or none; NAME alone: the settings as they are. Give it once for each variant",
    )
    own.add_argument(
        "--frames",
        type=positive,
        default=20_000,
        metavar="N",
        help="frames of each run (%(default)s)",
    )
    add_weaken(own, float)
    own.add_argument(
        "--eval-every",
        type=positive,
        default=2000,
        metavar="FRAMES",
        help="frames between two evaluations (%(default)s)",
    )
    add_config(parser)


def main(args: argparse.Namespace) -> int:
    console = terminal(stderr=args.json)
    chosen = _chosen(args)
    if args.env:
        folder = STUDIES / chosen[0].scenes[0].name
        args.results = args.results or folder / "runs"
        args.report = args.report or (None if args.json else folder)
    args.results = args.results or FOLDER
    if args.report and not _has_matplotlib():
        option = "--env without --json" if args.env else "--report"
        raise ConfigError(f"{option} draws pictures with matplotlib; {how_to_install('study')}")
    if args.list:
        _print_list(console, args)
        return 0
    todo = {c.name: jobs(c, seeds=args.seeds, full=args.full) for c in chosen}
    failures = []
    if args.names or not args.report or args.env:
        failures = _run(console, [job for each in todo.values() for job in each], args)
    found = [
        (
            comparison,
            load_results(
                args.results,
                todo[comparison.name],
                episodes=comparison.eval_episodes,
                seeds=comparison.seeds,
            ),
            _command(comparison, args),
        )
        for comparison in chosen
    ]
    if args.json:
        print(json.dumps([study_report.as_data(c, r) for c, r, _ in found], indent=2))
    else:
        for comparison, results, _ in found:
            if results.runs or not args.report:
                study_report.print_tables(console, comparison, results)
    if args.report:
        order = [comparison.name for comparison in COMPARISONS]
        *pictures, page = study_report.write(args.report, found, order)
        said = f"written: {page} and {len(pictures)} pictures"
        console.print(said, highlight=False, soft_wrap=True)
    for failure in failures:
        print(f"understudy study: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _has_matplotlib() -> bool:
    try:
        importlib.import_module("matplotlib")
    except ImportError:
        return False
    return True


def _chosen(args: argparse.Namespace) -> list[Comparison]:
    """The comparisons that were asked for. Errors: ConfigError."""
    told = given(args)
    if args.env:
        if args.names:
            raise ConfigError(f"--env {args.env}: expected no other comparison, got {args.names}")
        return [_own(args)]
    for option in ("variant", "expert"):
        if getattr(args, option):
            raise ConfigError(
                f"--{option}: expected --env ENV with it, the game that it is about; named "
                "comparisons have their own"
            )
    if told.preset or told.file or told.resume or told.settings.values:
        options = ", ".join(told.settings.given_as.values()) or "--preset, --config or --resume"
        raise ConfigError(
            f"{options}: the settings of a named comparison are its own; for others there is "
            "--env ENV"
        )
    known = {comparison.name: comparison for comparison in COMPARISONS}
    unknown = [name for name in args.names if name not in known]
    if unknown:
        raise ConfigError(f"there is no comparison {unknown[0]!r}; there are {', '.join(known)}")
    if args.names:
        return [known[name] for name in dict.fromkeys(args.names)]
    if args.report or args.full or args.list:
        return list(COMPARISONS)
    return [known[WITHOUT_A_NAME]]


def _own(args: argparse.Namespace) -> Comparison:
    """The comparison that the command line describes."""
    settings = flat(load(given(args)).config)
    for name in ("run.dir", "run.seed"):
        del settings[name]  # seeds are those of --seeds
    return own_comparison(
        args.env,
        base=settings,
        variants=args.variant,
        expert=args.expert,
        weaken=args.weaken,
        frames=args.frames,
        eval_every=args.eval_every,
        seeds=args.seeds or OWN_SEEDS,
    )


def _run(console: Console, wanted: Sequence[Job], args: argparse.Namespace) -> list[str]:
    """Run what is missing; what failed."""
    wanted = list({path_of(args.results, job): job for job in wanted}.values())  # some are shared
    missing = [job for job in wanted if not path_of(args.results, job).exists()]
    if not missing:
        console.print(
            f"all {len(wanted)} runs are complete in {args.results}: nothing is played again; to "
            "repeat them, choose an empty folder with --results",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
        return []
    failures: list[str] = []
    with StudyScreen(console, wanted, missing) as screen:
        for job, news in run(missing, args.results, args.jobs or cores()):
            screen.show(job, news)
            if isinstance(news, JobFailed):
                failures.append(f"{job.title}: {news.message}")
    return failures


def _command(comparison: Comparison, args: argparse.Namespace) -> str:
    """What makes these results again."""
    if args.env:
        return own_command(args)
    more = " --full" if args.full else ""
    more += f" --seeds {args.seeds}" if args.seeds else ""
    return f"scripts/study {comparison.name}{more}"


def _print_list(console: Console, args: argparse.Namespace) -> None:
    table = Table(box=None)
    table.add_column("comparison", no_wrap=True)
    table.add_column("")
    for name in ("complete runs", "frames"):
        table.add_column(name, justify="right", no_wrap=True)
    for comparison in COMPARISONS:
        runs = [job for job in jobs(comparison, seeds=args.seeds, full=args.full) if job.variant]
        there = sum(path_of(args.results, job).exists() for job in runs)
        frames = text(sum(job.options.frames for job in runs))
        table.add_row(comparison.name, comparison.title, f"{there} of {len(runs)}", frames)
    console.print(table)
