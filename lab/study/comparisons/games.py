"""The comparison `games`: is a student beside any teacher at least as good as one without any?

Games that nobody tuned for, with the defaults: no preset and no setting, but for the budget.
"""

from __future__ import annotations

from dataclasses import replace

from lab.study.checks import Check, NotWorse, NotWorseAnywhere, Passes
from lab.study.comparisons.shared import RETURN
from lab.study.design import NO_EXPERT, Comparison, Scene

DEFAULT, ALONE = "default", "no teacher"

NOISE = 0.3
"""The share of a noisy teacher's actions that are random."""

_CLASSIC, _MINATAR, _LUNAR = (
    f"understudy_client.{module}" for module in ("classic", "minatar_experts", "lunar")
)

GAMES = {
    "cartpole": ("CartPole-v1", 20_000, f"{_CLASSIC}:balance", f"{_CLASSIC}:timid_balance"),
    "acrobot": ("Acrobot-v1", 30_000, f"{_CLASSIC}:pump", f"{_CLASSIC}:timid_pump"),
    **{
        name.replace("_", "-"): (
            f"MinAtar/{name.title().replace('_', '')}-v1",
            50_000,
            f"{_MINATAR}:{name}",
            f"{_MINATAR}:timid_{name}",
        )
        for name in ("asterix", "breakout", "freeway", "seaquest", "space_invaders")
    },
    "lander": ("LunarLander-v3", 20_000, f"{_LUNAR}:heuristic", None),
    "lander-continuous": ("LunarLanderContinuous-v3", 20_000, f"{_LUNAR}:heuristic", None),
    "pong": ("PongRam-v0", 200_000, "understudy_client.pong:follow_ball", None),
    "lander-hybrid": ("LunarLanderHybrid-v3", 20_000, f"{_LUNAR}:hybrid_heuristic", None),
}
"""The environment, the budget of frames, the expert that plays well and the one that plays safe."""


def _scenes() -> tuple[Scene, ...]:
    found = []
    for game, (env, frames, good, timid) in GAMES.items():
        teachers = {"good": (good, 0.0), "timid": (timid, 0.0), "noisy": (good, NOISE)}
        for kind, (expert, weaken) in teachers.items():
            if expert is not None:
                title = f"{env}, a {kind} teacher"
                # Long budgets are of games with long episodes.
                every = frames // 10 if frames > 50_000 else None
                found.append(
                    Scene(f"{game}-{kind}", title, env, weaken, expert, game, frames, every)
                )
    env, _, good, _ = GAMES["lander"]
    worst = Scene("lander-worst", f"{env}, 70 % of the teacher's actions random", env, 0.7, good)
    return (*found, replace(worst, game="lander", frames=30_000))


SCENES = _scenes()

WITHIN_AN_HOUR = ("cartpole-timid", "acrobot-noisy", "breakout-noisy", "space-invaders-timid")
"""The scenes without --full: 24 runs of about 100 (CartPole), 150 (Acrobot) and 370 (MinAtar)
seconds of one core. The games are the cheapest of each kind, and MinAtar's two for which a level is
expected; the teachers are those from whom there is least to copy: one that is in the way shows
soonest."""

_NAMES = tuple(scene.name for scene in SCENES)

_CHECKS: tuple[Check, ...] = (
    NotWorseAnywhere(_NAMES, DEFAULT, ALONE),
    *(NotWorse(name, DEFAULT, ALONE) for name in _NAMES),
    Passes("breakout-good", DEFAULT, 80, by=20_000),
    Passes("space-invaders-timid", DEFAULT, 40, by=50_000),
    Passes("acrobot-noisy", DEFAULT, None, by=10_000, of="acrobot-good"),
    Passes("lander-good", DEFAULT, 200, by=6000),
    Passes("lander-noisy", DEFAULT, 200, by=15_000, every_seed=True),
    Passes("lander-worst", DEFAULT, 200, by=30_000, every_seed=True),
    Passes("lander-hybrid-good", DEFAULT, None, by=15_000, less=10),
    Passes("lander-hybrid-noisy", DEFAULT, 250, by=20_000, every_seed=True),
    Passes("pong-good", DEFAULT, 1, by=200_000),
)

NEVER_WORSE = Comparison(
    "games",
    "Never worse than no teacher",
    f"""\
Games that nobody tuned for, each with a teacher that plays well (`good`), one that plays safe
(`timid`), and the good one with {NOISE:.0%} of its actions random (`noisy`);
[experts.md](experts.md#the-experts-of-the-studies) says what they score. `{DEFAULT}` is the
defaults, and nothing else; `{ALONE}` is the same learner without any teacher, whose runs the scenes
of a game share. Who has a teacher is to have at least as great an area under the evaluation curve.
The probability that it is greater is averaged over games (Agarwal et al. 2021), for their returns
have no common scale. Evaluations are of 10 episodes, the last one of 50.

Without `--full` four scenes are played, about an hour on two cores: {", ".join(WITHIN_AN_HOUR)}.
They are the cheapest games of each kind, with the teacher from whom there is least to copy.""",
    scenes=SCENES,
    variants={DEFAULT: {}, ALONE: {}},
    experts={ALONE: NO_EXPERT},
    frames=50_000,
    eval_episodes=10,
    final_episodes=50,
    seeds=3,
    seeds_full=5,
    full_only=tuple(name for name in _NAMES if name not in WITHIN_AN_HOUR),
    one_scale=False,
    checks=_CHECKS,
    pictures=(RETURN,),
)

PIXELS = Comparison(
    "pixels",
    "Pong and Breakout from pixels",
    f"""\
ALE's games as DQN saw them (84 x 84 pixels, an action for 4 frames, 4 pictures together), beside
followers of the ball that are told where it is. `{DEFAULT}` is the defaults; `{ALONE}` is the same
learner without a teacher.""",
    scenes=tuple(
        Scene(
            f"{game}-pixels",
            f"{env} from pixels",
            env,
            expert=f"understudy_client.atari:follow_{game}",
            preprocess="atari",
        )
        for game, env in (("pong", "ALE/Pong-v5"), ("breakout", "ALE/Breakout-v5"))
    ),
    variants={DEFAULT: {}, ALONE: {}},
    experts={ALONE: NO_EXPERT},
    settings={"replay.frame_stack": 4},
    frames=200_000,
    eval_every=20_000,
    eval_episodes=3,
    final_episodes=10,
    seeds=3,
    seeds_full=5,
    one_scale=False,
    checks=tuple(NotWorse(f"{game}-pixels", DEFAULT, ALONE) for game in ("pong", "breakout")),
    pictures=(RETURN,),
)
