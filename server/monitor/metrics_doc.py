"""The reference page of all metrics, `docs/metrics.md`: this module prints it."""

from __future__ import annotations

from server.ipc.turn_buckets import TURN_BUCKETS_S
from server.monitor.game_metrics import FORMS, HELP, MOST
from server.monitor.metric import HISTOGRAM
from server.monitor.metrics import ACTOR, REGISTRY, SERIES
from server.monitor.prometheus import NAMES, PREFIX

SUMMARY: dict[str, tuple[str, str]] = {
    "run": ("", "the run directory"),
    "launch": (
        "",
        "1 for the first start of the run, 2 where it was resumed once, and so on; counters are of "
        "this start",
    ),
    "buffer": ("", "what the replay holds: total, dqn, expert (steps), frac_dqn, frac_expert"),
    "frames": ("frames", "stored frames of the training games"),
    "seconds": ("s", "from their first frame to their last, without the time of evaluations"),
    "frames_per_s": ("1/s", "frames divided by seconds"),
    "updates": ("", "optimizer steps"),
    "updates_per_s": ("1/s", "until the last frames had been trained on"),
    "samples_per_s": ("1/s", "the same in rows"),
    "eval_return_mean": ("", "mean return of the network alone, without exploration"),
    "eval_episodes": ("", "episodes of that evaluation"),
    "expert_return_mean": ("", "mean return of the expert alone, from the same seeds"),
    "expert_episodes": ("", "episodes of the expert's evaluation"),
    "eval_on_the_way": (
        "",
        "of each evaluation during training: frames, and mean return of the network alone",
    ),
    "attribution_compared": ("steps", "rows of the replay compared with the games' own logs"),
    "attribution_mismatches": ("steps", "rows that were wrong, and steps that were missing"),
}
"""What `summary.json` has beyond, or in place of, the last row."""

_HEAD = """# Metrics

Every number that a run writes to `metrics.jsonl` (one row for each interval, `metrics.every_s`) and
to `summary.json`. A mean over no rows is `null`, never 0. A gauge that a gateway or the trainer
tells is `null`, too, once three intervals (and at least a second) have passed without a report of
it: it was stopped, hangs, or is being restarted. `report_age_s` says how old its newest report is.
A counter only rises, whichever process
dies; it counts from the start of the server. Numbers that belong together are of one moment:
`frames`, `steps_completed`, `steps_stored` and `steps_in_flight` are looked at together when a row
is made, and a rate is taken from two counts and the times at which these were taken. Rows of
earlier revisions have no `steps_in_flight`; their `transitions_dropped` was a difference of two
moments and means nothing. This page is made by `python -m server.monitor.metrics_doc >
docs/metrics.md`.

| metric | unit | kind | meaning |
|---|---|---|---|"""

_OF_GAME = """
## What a game names itself

These have a name of the game's at their end, and are there only where a game tells them. A run has
at most {most} names of numbers.

| metric | meaning |
|---|---|"""

_SUMMARY = """
## Only in the summary

`summary.json` has the newest value of each metric (of those that were numbers), and the following
in addition or instead. Those from `frames` on are written by the demo.

| field | unit | meaning |
|---|---|---|"""

_ELSEWHERE = """
## Prometheus

`/metrics` has all of them, each with its newest value that was a number. What has not been one for
three intervals is left out: only what the learner measures stays while it learns nothing.

| metric | in Prometheus |
|---|---|
| a gauge: `frames_per_s` | `{prefix}{gauge}` |
| a counter: `stalls` | `{prefix}{counter}` |
| one of an actor: `td_err_mean_dqn` | `{prefix}{actor}{{actor="dqn"}}` |
| one of an error code: `errors_bad_token` | `{prefix}{code}{{code="bad_token"}}` |
| one of a process: `restarts_trainer` | `{prefix}{process}{{process="trainer"}}` |
| a part of the reward: `reward_part/dqn/goal` | `{prefix}reward_part{{actor="dqn",part="goal"}}` |
| a number of the game: `game_peak/coins` | `{prefix}game_peak{{name="coins"}}` |

Each actor has its own {labelled}.

These are for Prometheus alone:

| metric | kind | meaning |
|---|---|---|
| `{prefix}turn_seconds` | histogram | {turn}; buckets up to {buckets} s |
| `{prefix}healthy`, `{prefix}ready` | gauge | 1 while `/healthz` and `/readyz` answer 200 |
| `{prefix}degraded` | gauge | 1 while a process has not reported for three intervals |
| `{prefix}started_time` | gauge | start of the server, seconds since 1970 |
| `{prefix}warning_holds` | gauge | 1 for each warning that holds; the label `id` says which |

`{prefix}run_info` has the labels `name`, `game` and `version`.

`frames`, `updates` and `steps_completed` are gauges although they rise nearly always: a run that is
resumed from an older checkpoint has fewer, and `rate()` would take that for a restart from 0. For
rates, use `{prefix}frames_per_s`, `{prefix}updates_per_s` or
`rate({prefix}{stored}[5m])`.

`deploy/grafana/understudy.json` is a Grafana dashboard; `deploy/prometheus/alerts.yml` has alert
rules.

## TensorBoard

With `metrics.tensorboard`, the run directory has event files in `tensorboard/`. The step is
`frames`. What has a label is in one group, with one tag for each value (`td_err_mean/dqn`,
`td_err_mean/expert`, `errors/bad_token`), and so are the parts of the reward and the numbers of the
game (`reward_part/dqn/goal`, `game_peak/coins`); everything else is in the group `run`.
"""


def document() -> str:
    """The page, as Markdown."""
    lines = [_HEAD]
    for name, series in SERIES.items():
        lines.append(_cells(f"`{name}`", series.metric.unit, series.metric.kind, series.help))
    lines.append(_OF_GAME.format(most=MOST))
    lines += [_cells(f"`{FORMS[family]}`", text) for family, text in HELP.items()]
    lines.append(_SUMMARY)
    lines += [_cells(f"`{name}`", *entry) for name, entry in SUMMARY.items()]
    labelled = [f"`{metric.name}`" for metric in REGISTRY if metric.label is ACTOR]
    text = _ELSEWHERE.format(
        prefix=PREFIX,
        gauge=NAMES["frames_per_s"],
        counter=NAMES["stalls"],
        actor=NAMES["td_err_mean_dqn"],
        code=NAMES["errors_bad_token"],
        process=NAMES["restarts_trainer"],
        stored=NAMES["steps_stored"],
        labelled=f"{', '.join(labelled[:-1])} and {labelled[-1]}",
        turn=next(metric.help for metric in REGISTRY if metric.kind == HISTOGRAM),
        buckets=f"{TURN_BUCKETS_S[-1]:g}",
    )
    return "\n".join([*lines, text.rstrip()]) + "\n"


def _cells(*cells: str) -> str:
    """A row of a table; a bar in a cell does not end it."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    print(document(), end="")
