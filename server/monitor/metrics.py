"""The registry of metrics: each one's name, unit, kind, label and meaning, declared once.

A row of `metrics.jsonl` is flat. A metric that has a label (`actor`, `code`, `process`) has one
series for each of its values, and `SERIES` has the name of each in a row, made from the label:
`td_err_mean` of the actor dqn is `td_err_mean_dqn`. No such name is ever taken apart again.

`docs/metrics.md` is made from this (`server.monitor.metrics_doc`). A test compares the names in a
row of a real run with `SERIES`.
"""

from __future__ import annotations

from protocol.actor import NAMES
from protocol.errors import CODES
from server.ipc.messages import GATEWAY, TRAINER
from server.monitor.merge import LARGEST, SUM, WEIGHTED
from server.monitor.metric import COUNTER, GAUGE, HISTOGRAM, Label, Metric, Series

ACTOR = Label("actor", {name: name for name in NAMES.values()})
CODE = Label("code", CODES)
PROCESS = Label("process", {kind: kind for kind in (GATEWAY, TRAINER)})

EPISODES = 100
"""Episode returns are means over this many of the newest."""

REGISTRY: tuple[Metric, ...] = (
    Metric("time", "s", GAUGE, "seconds since 1970, UTC"),
    Metric("frames", "frames", GAUGE, "stored frames of the whole run; schedules follow them"),
    Metric("frames_per_s", "1/s", GAUGE, "frames in training that games completed per second"),
    Metric("answers_per_s", "1/s", GAUGE, "answered frames per second, evaluation included"),
    Metric("frames_eval", "frames", COUNTER, "frames answered in the role eval"),
    Metric("frames_eval_expert", "frames", COUNTER, "frames answered in the role eval_expert"),
    Metric("frames_play", "frames", COUNTER, "frames answered in the role play"),
    Metric("clients", "", GAUGE, "connections"),
    Metric("slots", "", GAUGE, "games in play, over all connections"),
    Metric("slots_training", "", GAUGE, "of those, games in training"),
    Metric("errors", "", COUNTER, "connections that ended with an error"),
    Metric("warnings", "", GAUGE, "warnings that hold; the dashboard and /api/state have them"),
    Metric(
        "turn_p50_ms", "ms", GAUGE, "median time of a turn, from its first frame to its last answer"
    ),
    Metric("turn_p99_ms", "ms", GAUGE, "99th percentile of the same, in the slowest gateway"),
    Metric(
        "turn_seconds",
        "s",
        HISTOGRAM,
        "time of a turn, from its first frame to its last answer, over all gateways",
    ),
    Metric(
        "expert_failures", "", COUNTER, "failed calls of the server's own expert (expert.plugin)"
    ),
    Metric(
        "takeovers",
        "",
        COUNTER,
        "interventions: times that somebody took over from the network or the script in training, "
        "a person for example (`took` with the actor expert)",
    ),
    Metric("takeover_frames", "frames", COUNTER, "frames that those lasted"),
    Metric(
        "takeover_share",
        "fraction",
        GAUGE,
        "of the frames in training of the last minute, those; null until there was one",
    ),
    Metric("takeover_length_mean", "frames", GAUGE, "mean length of those of the last minute"),
    Metric("stalls", "", COUNTER, "times that a full ring stopped the reading of frames"),
    Metric(
        "replies_misread",
        "",
        COUNTER,
        "times that an older client for Tempest was found to read replies of another length than "
        "it is sent (tempest.reply_bytes)",
    ),
    Metric(
        "games_held",
        "fraction",
        GAUGE,
        "share of the time in which games in lock step waited for training, in the gateway where "
        "it was largest; high where games play faster than is learnt from them",
    ),
    Metric("policy_version", "", GAUGE, "version of the weights that the gateways act with"),
    Metric(
        "expert_ratio", "fraction", GAUGE, "share of frames for the expert, where it recommends"
    ),
    Metric("epsilon", "fraction", GAUGE, "share of dqn frames with random discrete actions"),
    Metric("restarts", "", COUNTER, "restarts of a process that died or hung", PROCESS),
    Metric(
        "report_age_s",
        "s",
        GAUGE,
        "time since the newest report of the process, of several gateways the oldest; after three "
        "intervals its gauges have no number",
        PROCESS,
    ),
    Metric(
        "steps_lost",
        "steps",
        COUNTER,
        "complete steps that were lost on their way to the replay, when a gateway died or when the "
        "server did before this start",
    ),
    Metric(
        "frames_lost",
        "frames",
        COUNTER,
        "answered frames that were lost in the same way before another frame completed them",
    ),
    Metric("episodes", "", COUNTER, "finished training episodes"),
    Metric(
        "episode_return_mean", "", GAUGE, f"mean return of the last {EPISODES} training episodes"
    ),
    Metric(
        "episode_length_mean",
        "frames",
        GAUGE,
        f"mean length of the last {EPISODES} training episodes",
    ),
    Metric(
        "game_score_mean",
        "",
        GAUGE,
        f"mean score of the last {EPISODES} training episodes, as the game itself counts; only of "
        "games whose clients tell it (docs/tempest.md), as the next three",
    ),
    Metric("game_score_peak", "", GAUGE, "highest score of a game since the start"),
    Metric("game_level_mean", "", GAUGE, f"mean level of the last {EPISODES} training episodes"),
    Metric("game_level_peak", "", GAUGE, "highest level of a game since the start"),
    Metric(
        "frames_skipped",
        "frames",
        COUNTER,
        "frames that were answered and not stored, because nobody plays there (tempest.skip)",
    ),
    Metric("lessons_begun", "", GAUGE, "lessons of `lessons.plan` that have begun"),
    Metric("eval_return_mean", "", GAUGE, "mean return of the network's newest evaluation"),
    Metric("eval_episodes", "", GAUGE, "episodes in that evaluation"),
    Metric("eval_frames", "frames", GAUGE, "stored frames of the run when that evaluation began"),
    Metric("eval_return_best", "", GAUGE, "best eval_return_mean of the run"),
    Metric("expert_return_mean", "", GAUGE, "mean return of the expert's newest evaluation"),
    Metric("expert_episodes", "", GAUGE, "episodes in the expert's newest evaluation"),
    Metric("updates", "", GAUGE, "optimizer steps of the whole run"),
    Metric("updates_per_s", "1/s", GAUGE, "optimizer steps per second"),
    Metric("samples_per_s", "1/s", GAUGE, "rows trained on per second: updates_per_s x batch size"),
    Metric("paused", "", GAUGE, "1 while training is paused, else 0"),
    Metric(
        "updates_due",
        "",
        GAUGE,
        "optimizer steps by which training is behind: the replay ratio makes them due for the "
        "frames answered so far, and they are to come",
    ),
    Metric("buffer_total", "steps", GAUGE, "steps in the replay", merge=SUM),
    Metric("buffer", "steps", GAUGE, "steps in the replay, by actor", ACTOR, merge=SUM),
    Metric("buffer_frac", "fraction", GAUGE, "share of the replay, by actor", ACTOR),
    Metric(
        "buffer_fill", "fraction", GAUGE, "share of the replay's capacity in use", merge=LARGEST
    ),
    Metric(
        "priority_max",
        "",
        GAUGE,
        "largest priority so far, which new steps get (replay.prioritized)",
        merge=LARGEST,
    ),
    Metric(
        "priority_mean",
        "",
        GAUGE,
        "mean priority of the actor's steps in the replay",
        ACTOR,
        merge=WEIGHTED,
    ),
    Metric(
        "rows_unkept",
        "rows",
        COUNTER,
        "rows of the replay that could not be written to the journal",
        merge=SUM,
    ),
    Metric(
        "ring_fill",
        "fraction",
        GAUGE,
        "share of the fullest step ring that waits for the trainer",
        merge=LARGEST,
    ),
    Metric(
        "steps_completed",
        "steps",
        GAUGE,
        "steps completed by the gateways since the start, less those lost with a gateway: "
        "steps_stored + steps_in_flight",
    ),
    Metric("steps_stored", "steps", COUNTER, "steps added to the replay", merge=SUM),
    Metric(
        "steps_in_flight",
        "steps",
        GAUGE,
        "complete steps on their way to the replay, in gateways and step rings, at this moment",
    ),
    Metric(
        "transitions_dropped",
        "steps",
        COUNTER,
        "complete steps that will never be in the replay: steps_lost",
    ),
    Metric(
        "loss",
        "",
        GAUGE,
        "the loss that is minimized: loss_td + loss_continuous + loss_imitation",
        merge=WEIGHTED,
    ),
    Metric(
        "loss_td",
        "",
        GAUGE,
        "its value part, with weights and factors: Huber loss of the TD error, cross entropy, or "
        "quantile loss (learner.value)",
        merge=WEIGHTED,
    ),
    Metric(
        "loss_continuous",
        "",
        GAUGE,
        "its part of continuous heads, with weights and factors: squared distance from the action "
        "taken, in half ranges, cloning of the expert included; or minus Q of the policy's action",
        merge=WEIGHTED,
    ),
    Metric(
        "loss_imitation",
        "",
        GAUGE,
        "its imitation part of discrete heads, with weights and factors: cross entropy or margin "
        "against the actions taken, or recommended (imitation.rows)",
        merge=WEIGHTED,
    ),
    Metric(
        "expert_trust",
        "fraction",
        GAUGE,
        "how much the expert is to be trusted by play: 1 without evidence, about 0 where the "
        "network is as good (docs/learning.md)",
    ),
    Metric(
        "imitation_weight",
        "",
        GAUGE,
        "weight of cloning the expert: imitation.expert, times the trust in the expert "
        "(imitation.decay)",
    ),
    Metric("learning_rate", "", GAUGE, "step size of the next update"),
    Metric("td_err_mean", "", GAUGE, "mean |TD error| over all rows", merge=WEIGHTED),
    Metric("q_mean", "", GAUGE, "mean Q of the actions taken, over all rows", merge=WEIGHTED),
    Metric(
        "grad_norm", "", GAUGE, "gradient norm before clipping, mean over the interval's updates"
    ),
    Metric(
        "batch_frac_dqn",
        "fraction",
        GAUGE,
        "share of the network's rows in the batches",
        merge=WEIGHTED,
    ),
    Metric(
        "updates_skipped",
        "",
        COUNTER,
        "updates that changed nothing, because their loss or gradient was not finite",
    ),
    Metric(
        "updates_skipped_in_a_row",
        "",
        GAUGE,
        "most skipped updates in a row; a row that goes on is counted whole",
    ),
    Metric(
        "rollbacks",
        "",
        COUNTER,
        "times that training went back to a good checkpoint because of skipped updates",
    ),
    Metric(
        "learning_rate_factor",
        "",
        GAUGE,
        "factor on the configured learning rate: 1, and less after a rollback",
    ),
    Metric("q_max", "", GAUGE, "largest |Q| of an action taken, in the interval", merge=LARGEST),
    Metric(
        "q_bound",
        "",
        GAUGE,
        "largest |Q| that the rewards so far can add up to: reward / (1 - gamma), with a margin",
        merge=LARGEST,
    ),
    Metric("values_drift", "", GAUGE, "1 while the warning about drifting values holds, else 0"),
    Metric("heads_dead", "", GAUGE, "heads with the warning that they are dead", merge=LARGEST),
    Metric("checkpoints_failed", "", COUNTER, "checkpoints that could not be written", merge=SUM),
    Metric(
        "writes_failed",
        "",
        COUNTER,
        "lines of logs and metrics, and other files, that could not be written",
    ),
    Metric("disk_free_bytes", "bytes", GAUGE, "free space on the disk of the run directory"),
    Metric(
        "batch_n",
        "rows",
        GAUGE,
        "the actor's rows in a batch, mean over the interval's batches",
        ACTOR,
        merge=SUM,
    ),
    Metric(
        "td_err_mean", "", GAUGE, "mean |TD error| over the actor's rows", ACTOR, merge=WEIGHTED
    ),
    Metric(
        "reward_mean",
        "",
        GAUGE,
        "mean one-step reward of the actor's rows in the batches",
        ACTOR,
        merge=WEIGHTED,
    ),
    Metric(
        "q_mean",
        "",
        GAUGE,
        "mean Q of the actions taken, over the actor's rows",
        ACTOR,
        merge=WEIGHTED,
    ),
    Metric(
        "grad_norm",
        "",
        GAUGE,
        "norm of the gradient from the actor's rows, every learner.grad_norm_every updates",
        ACTOR,
    ),
    Metric(
        "grad_share",
        "fraction",
        GAUGE,
        "that norm over the sum of both actors' norms: how much of the change of the network comes "
        "from the actor's rows; an absent actor has none",
        ACTOR,
    ),
    Metric(
        "agreement",
        "fraction",
        GAUGE,
        "how often the network would do itself what the expert recommends: over the actor's rows "
        "with a recommendation in the last batch, mean over the columns of the action",
        ACTOR,
        merge=WEIGHTED,
    ),
    Metric(
        "probe_return",
        "",
        GAUGE,
        "mean return of the newest episodes of training that the actor played alone and without "
        "exploration, in rewards as they are learnt from (imitation.decay play)",
        ACTOR,
    ),
    Metric(
        "weight_mean", "", GAUGE, "mean advantage weight of the actor's rows", ACTOR, merge=WEIGHTED
    ),
    Metric(
        "weight_ess",
        "fraction",
        GAUGE,
        "effective sample size of the actor's advantage weights over its number of rows: "
        "(sum w)^2 / (n sum w^2), 1 if all weights are equal",
        ACTOR,
        merge=WEIGHTED,
    ),
    Metric(
        "reward_frame_mean",
        "",
        GAUGE,
        "mean reward of the actor's frames as they come in",
        ACTOR,
        merge=WEIGHTED,
    ),
    Metric("errors", "", COUNTER, "connections that ended with this error", CODE),
)
"""In the order of the page. A mean over no rows is NaN in memory and null in JSON, never 0."""

OF_GATEWAYS = (
    "answers_per_s", "clients", "slots", "slots_training", "turn_p50_ms", "turn_p99_ms",
    "games_held", "policy_version", "expert_ratio", "epsilon",
)  # fmt: skip
"""What gateways say of now in their reports: no number where one of them does not report."""

SERIES: dict[str, Series] = {series.name: series for metric in REGISTRY for series in metric.series}
"""By name: all that a row has."""
