// The charts. Keys are those of docs/metrics.md.

const dqn = (key, more = {}) => ({ key: `${key}_dqn`, name: "dqn", color: "dqn", ...more });
const expert = (key, more = {}) => ({ key: `${key}_expert`, name: "expert", color: "expert", dash: 0, empty: "No expert frames yet.", ...more });
const pair = (id, title, more = {}) => ({ id, title, pair: true, learnt: true, empty: "No updates yet.", lines: [dqn(id), expert(id)], ...more });

/** What games count themselves: the chart is there only where they tell it. */
const game = (id, title) => ({
  id: `game_${id}`,
  title,
  optional: true,
  unit: "by the game's own count",
  empty: "No episode has ended yet.",
  zero: true,
  lines: [
    { key: `game_${id}_mean`, name: "mean of 100 episodes", short: "mean", color: "third" },
    { key: `game_${id}_peak`, name: "peak", color: "dqn" },
  ],
});

/** Charts of what the game names itself, by place: the parts of its reward, and its numbers. */
export function ownCharts(metrics) {
  const names = (family) => metrics.filter((key) => key.startsWith(`${family}/`)).map((key) => key.slice(family.length + 1));
  const parts = names("reward_part").filter((name) => name.startsWith("dqn/")).map((name) => name.slice(4));
  return {
    actors: parts.map((part) => ({
      id: `part-${encodeURIComponent(part)}`,
      title: `Reward: ${part}`,
      unit: "per step in training",
      pair: true,
      empty: NO_FRAMES,
      lines: [
        { key: `reward_part/dqn/${part}`, name: "dqn", color: "dqn" },
        { key: `reward_part/expert/${part}`, name: "expert", color: "expert", dash: 0, empty: "No expert frames yet." },
      ],
    })),
    learning: names("game_mean").map((name) => ({
      id: `own-${encodeURIComponent(name)}`,
      title: name,
      unit: "the game's own number, over 100 episodes",
      empty: "No episode has ended yet.",
      lines: [
        { key: `game_mean/${name}`, name: "mean of an episode", short: "mean", color: "third" },
        { key: `game_peak/${name}`, name: "peak of an episode", short: "peak", color: "dqn" },
      ],
    })),
  };
}

const NO_FRAMES = "No frames yet.";
const NO_UPDATES = "No updates yet: the replay is filling up.";
export const PAUSED = "Training is paused.";

const PARTS = {
  loss: { name: "total", color: "third", dash: 0 },
  loss_td: { name: "TD", color: "dqn", dash: 1 },
  loss_continuous: { name: "continuous", short: "cont.", color: "fourth", dash: 3 },
  loss_imitation: { name: "imitation", color: "expert", dash: 2 },
};
const COLORS = ["dqn", "expert", "fourth", "third"];

/** A chart as it is drawn of these metrics: one of `parts` has a line for the metric of that name and
 * one for each that begins with it, so that none is left out that the server comes to have. */
export function withParts(spec, metrics) {
  if (!spec.parts) return spec;
  const keys = metrics.filter((key) => key === spec.parts || key.startsWith(`${spec.parts}_`));
  const line = (key, at) => ({
    key,
    name: key.slice(spec.parts.length + 1).replaceAll("_", " "),
    color: COLORS[at % COLORS.length],
    dash: at % COLORS.length,
    ...PARTS[key],
  });
  return { ...spec, lines: keys.map(line) };
}

export const EVALUATION = {
  id: "evaluation",
  title: "Evaluation",
  unit: "mean return",
  by: "frames",
  empty: "No evaluation yet.",
  lines: [
    { name: "dqn", color: "dqn", marker: "circle" },
    { name: "expert", color: "expert", marker: "square" },
  ],
};

export const CHARTS = {
  learning: [
    EVALUATION,
    {
      id: "returns",
      title: "Training return",
      unit: "mean of 100 episodes",
      empty: "No episode has ended yet.",
      lines: [{ key: "episode_return_mean", name: "return", color: "third" }],
    },
    {
      id: "loss",
      title: "Loss",
      learnt: true,
      empty: NO_UPDATES,
      zero: true,
      parts: "loss",
      lines: [],
    },
    game("score", "Game score"),
    game("level", "Game level"),
  ],
  played: [
    {
      id: "schedules",
      title: "Expert ratio, epsilon and cloning",
      empty: NO_FRAMES,
      fixed: [0, 1.04],
      lines: [
        { key: "expert_ratio", name: "expert ratio", short: "ratio", color: "expert" },
        { key: "epsilon", name: "epsilon", color: "third" },
        { key: "imitation_weight", name: "weight of cloning", short: "cloning", color: "dqn" },
      ],
    },
    {
      id: "takeovers",
      title: "Interventions",
      optional: true,
      unit: "share of the last minute",
      empty: NO_FRAMES,
      fixed: [0, 1.04],
      lines: [{ key: "takeover_share", name: "taken over", color: "expert" }],
    },
    {
      id: "takeover_lengths",
      title: "Intervention length",
      optional: true,
      unit: "frames, last minute",
      empty: NO_FRAMES,
      zero: true,
      lines: [{ key: "takeover_length_mean", name: "length", color: "expert" }],
    },
  ],
  actors: [
    pair("td_err_mean", "TD error", { zero: true }),
    pair("q_mean", "Q of the actions taken"),
    pair("reward_mean", "Reward in batches"),
    pair("grad_share", "Gradient share", { fixed: [0, 1.04] }),
    pair("agreement", "Agrees with the expert", { unit: "share of recommendations", fixed: [0, 1.04] }),
    pair("weight_mean", "Advantage weight", { unit: "mean over rows", zero: true }),
    pair("weight_ess", "Effective sample size", { unit: "share of rows", fixed: [0, 1.04] }),
  ],
  speed: [
    {
      id: "frames_per_s",
      title: "Frames",
      unit: "per second",
      empty: NO_FRAMES,
      zero: true,
      lines: [
        { key: "frames_per_s", name: "training", color: "dqn" },
        { key: "answers_per_s", name: "all", color: "third" },
      ],
    },
    {
      id: "latency",
      title: "Turn time",
      unit: "ms",
      empty: NO_FRAMES,
      zero: true,
      lines: [
        { key: "turn_p50_ms", name: "p50", color: "dqn" },
        { key: "turn_p99_ms", name: "p99", color: "expert" },
      ],
    },
    {
      id: "updates_per_s",
      title: "Updates",
      unit: "per second",
      learnt: true,
      empty: NO_UPDATES,
      zero: true,
      lines: [{ key: "updates_per_s", name: "updates", color: "third" }],
    },
  ],
};
