"""`understudy tune`: search for the settings that suit a game of your own.

Plays trials, each with other settings, in the lock-step trainer of `understudy study`. Stop it at
any time, and go on with the same command.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from types import ModuleType

from config.fields import all_settings, flat
from config.load import ConfigError, Loaded, load
from config.options import add_arguments as add_config
from config.options import given
from lab.study.design import NO_EXPERT
from lab.study.given import check_weaken, checked_game, keys_of
from lab.study.own import AS_GIVEN, own_command
from lab.study.workers import cores
from lab.sync_trainer import EvaluationPoint, SyncTrainerOptions
from lab.tune import outcome
from lab.tune.outcome import TrialResult
from lab.tune.plan import TunePlan
from lab.tune.screen import TuneScreen
from lab.tune.space import FORMS, SEARCH, default_space, parse_space
from server.arguments import add_weaken, look_here, positive
from server.play.extras import how_to_install
from server.terminal import terminal

FOLDER = Path("tuned")
"""Where searches are kept, in a folder for each environment."""

SEED = 1001
"""Of the first run of each trial, where no seed is given: studies begin at 1."""

DEFAULT = "default"
"""What stands for the default space in `--search`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--env",
        required=True,
        help="a Gymnasium environment, as ID or module:ID",
    )
    add(
        "--expert",
        metavar="MODULE:FUNCTION",
        help="an expert instead of the known one; none: no expert",
    )
    add_weaken(parser)
    add(
        "--search",
        action="append",
        default=[],
        metavar="KEY=VALUES",
        help=f"search this setting, instead of the default ones: {FORMS}; a schedule's name sets "
        f"its start and its end; {DEFAULT}: the default ones too. Give it once for each setting",
    )
    add(
        "--trials",
        type=positive,
        default=30,
        metavar="N",
        help="number of trials, those of earlier calls included (%(default)s)",
    )
    add(
        "--frames",
        type=positive,
        default=20_000,
        metavar="N",
        help="frames of each run (%(default)s)",
    )
    add(
        "--seeds",
        type=positive,
        default=1,
        metavar="N",
        help="runs of each trial, with seeds from --seed on; their mean counts (%(default)s)",
    )
    add(
        "--workers",
        type=positive,
        metavar="N",
        help="number of trials at a time (as many as there are cores)",
    )
    add(
        "--eval-every",
        type=positive,
        default=2000,
        metavar="FRAMES",
        help="frames between two evaluations (%(default)s)",
    )
    add(
        "--eval-episodes",
        type=positive,
        default=10,
        metavar="N",
        help="episodes of an evaluation (%(default)s)",
    )
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help=f"folder of the search ({FOLDER}/ENV); where it holds one already, that goes on",
    )
    add_config(parser)


def main(args: argparse.Namespace) -> int:
    search = _search_module()
    console = terminal(wide=True)
    plan = make_plan(args, load(given(args)))
    folder = args.out or FOLDER / re.sub(r"[^\w.+-]+", "-", args.env)
    code, reason = 0, ""
    with search.Search(folder, plan) as found:
        there = len(found.results)
        if there or found.replayed:
            said = f"{folder}: {there} trials are there, {found.replayed} are played again"
            console.print(said, highlight=False, soft_wrap=True)
        screen = TuneScreen(console, there, args.trials, args.frames)

        def show(number: int, news: EvaluationPoint | TrialResult | None) -> None:
            screen.show(number, news)
            if isinstance(news, TrialResult):
                outcome.write(folder, plan, found.results)

        try:
            with screen:
                found.run(args.trials, args.workers or cores(), show)
        except KeyboardInterrupt:
            code, reason = 130, "stopped; the same command goes on with the search"
        except search.TuneFailed as error:
            code, reason = 1, f"{search.MOST_FAILURES} trials failed one after the other: {error}"
        results, importances = found.results, found.importances()
    outcome.write(folder, plan, results)
    outcome.print_trials(console, results, importances)
    said = f"written: {folder / outcome.TRIALS}"
    if (best := outcome.best_of(results)) is not None:
        said += (
            f", and trial {best.number}'s settings as {folder / outcome.BEST}\n"
            f"to compare it with the settings as given: {_comparison(args, best)}"
        )
    console.print(said, highlight=False, soft_wrap=True)
    if reason:
        print(f"understudy tune: {reason}", file=sys.stderr)
    return code


def make_plan(args: argparse.Namespace, loaded: Loaded) -> TunePlan:
    """What the command line asks for, checked. Errors: ConfigError."""
    look_here()
    spec, expert = checked_game(args.env, args.expert, "--expert")
    check_weaken(args.weaken, args.env, expert)
    base = flat(loaded.config)
    del base["run.dir"]
    seed = base.pop("run.seed")
    taught = expert != NO_EXPERT or base["expert.plugin"] is not None
    fixed = [key for key, origin in loaded.origins.items() if origin != "default"]
    words: list[str] = []
    for word in args.search or [DEFAULT]:
        if word == DEFAULT:
            words += default_space(spec, taught=taught, given=fixed)
        else:
            words.append(word)
    options = SyncTrainerOptions(
        env=args.env,
        expert=args.expert,
        weaken=args.weaken,
        frames=args.frames,
        eval_every=args.eval_every,
        eval_episodes=args.eval_episodes,
    )
    space = parse_space(words, base)
    return TunePlan(options, args.seeds, SEED if seed is None else seed, base, space)


def _comparison(args: argparse.Namespace, best: TrialResult) -> str:
    """The command line of a study of the best settings, on other seeds than the search's."""
    values = (
        f"{name}={all_settings()[keys_of(name, SEARCH)[0]].show(value)}"
        for name, value in best.drawn.items()
    )
    variants = [AS_GIVEN, f"found:{','.join(values)}"]
    return own_command(argparse.Namespace(**vars(args) | {"variant": variants, "seeds": 5}))


def _search_module() -> ModuleType:
    """`lab.tune.search`, which needs Optuna. Errors: ConfigError."""
    try:
        from lab.tune import search
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise ConfigError(f"it searches with Optuna; {how_to_install('tune')}") from None
    return search
