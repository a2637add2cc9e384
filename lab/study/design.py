"""What a comparison is: games, variants of the settings, seeds, and what is expected of them.

A comparison is plain data (`lab.study.comparisons`). From it follow the *jobs*: one run for each
scene, variant and seed, and the expert alone for each scene. A job's key ends in a digest of
everything that its outcome depends on, so that changed settings are another job and never mistaken
for an earlier one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from config import renamed
from config.fields import all_settings
from config.load import config_from
from config.models import Config
from lab.study.checks import Check
from lab.sync_trainer import SyncTrainerOptions

EXPERT = ""
"""The variant of a job that plays the expert alone."""

NO_EXPERT = "none"
"""The teacher of a variant or scene that has none, as `understudy_client.experts.find` knows it."""

ELSEWHERE = (
    "server", "tempest", "evaluation", "checkpoint", "health", "lessons", "metrics", "run",
    "supervision", "cluster",
)  # fmt: skip
"""Groups of settings that a run without sockets does not read, the seed apart."""

_LATER = (
    "expert.plugin",
    "expert.ratio.hold",
    "exploration.epsilon.hold",
    "exploration.noise.hold",
    "replay.memory_share",
    "trainer.cuda_graphs",
    "replay.priority_beta.hold",
    "imitation.expert.hold",
    "learner.cosine_restarts",
    "learner.memory",
    "learner.memory_burn_in",
    "learner.memory_units",
    "learner.memory_unroll",
)
"""Fields that came when there were results already. With its default each is what all runs before
it had, so it is part of a digest only where it has another value."""

_LATER_DEFAULTS = {
    "imitation.decay": "schedule",
    "imitation.rows": "expert",
    "learner.normalize_values": False,
}
"""The same of fields whose default is no longer what runs before had: this."""

_UNREAD = {"trainer.max_lag_updates": {50: None, 32: 8}}
"""Fields that a run in lock step does not read, and whose values were others when there were
results already: for those of today (the default, a preset's) the earlier ones stand in digests."""


@dataclass(frozen=True)
class Scene:
    """A game and its teacher."""

    name: str
    title: str
    env: str
    weaken: float = 0.0
    """The share of the expert's actions that are replaced by random ones."""
    expert: str | None = None
    """`module:function`, NO_EXPERT, or None for the known one."""
    game: str | None = None
    """Scenes of one game, which differ in the teacher, share their runs of variants without one.
    They are kept under this name."""
    frames: int | None = None
    """Of each run, where that is not the comparison's."""
    eval_every: int | None = None
    preprocess: str | None = None
    """What is put around the environment, as `understudy_client.experts.make` knows it."""
    variants: tuple[str, ...] | None = None
    """The variants that are played here; None for all."""


@dataclass(frozen=True)
class Picture:
    """A figure for each scene: how something went during training."""

    name: str
    title: str
    panels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Variants by the title of the panel that shows them; none: all in one panel."""
    metrics: tuple[str, ...] = ()
    """Instead of the evaluation return: metrics that exist for both actors, such as q_mean; a row
    of two panels for each."""


@dataclass(frozen=True)
class Comparison:
    """What is compared with what."""

    name: str
    title: str
    why: str
    """What it is to show, in Markdown."""
    scenes: tuple[Scene, ...]
    variants: Mapping[str, Mapping[str, Any]]
    """Settings by key, for each variant."""
    frames: int
    experts: Mapping[str, str] = field(default_factory=dict)
    """The teachers of variants that have another than their scene: `module:function` or NO_EXPERT.
    One that is not the scene's is not weakened."""
    preset: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of all variants, over the preset."""
    eval_every: int = 2000
    eval_episodes: int = 20
    final_episodes: int = 100
    """Episodes of the last evaluation, and of the expert's."""
    seeds: int = 3
    seeds_full: int = 10
    """With --full."""
    full_only: tuple[str, ...] = ()
    """Scenes that are played with --full alone."""
    clients: int = 8
    seconds: float | None = None
    """A run also ends when it has taken this long."""
    passing: float | None = None
    """Report when the evaluation return first exceeds this."""
    one_scale: bool = True
    """Whether returns of all scenes may be averaged."""
    checks: tuple[Check, ...] = ()
    metrics: tuple[str, ...] = ()
    """Metrics whose mean over the training the table has."""
    pictures: tuple[Picture, ...] = (Picture("return", "evaluation return"),)

    def __post_init__(self) -> None:
        for scene in self.scenes:
            _all_known(f"{self.name}: scene {scene.name}", scene.variants or (), self.variants)
        for picture in self.pictures:
            for title, shown in picture.panels.items():
                _all_known(f"{self.name}: panel {title}", shown, self.variants)
        scenes = [scene.name for scene in self.scenes]
        _all_known(f"{self.name}: full_only", self.full_only, scenes)
        _all_known(f"{self.name}: experts", tuple(self.experts), self.variants)
        for check in self.checks:
            _all_known(f"{self.name}: {check}", check.scenes, scenes)
            _all_known(f"{self.name}: {check}", check.variants, self.variants)

    def of(self, scene: Scene) -> tuple[str, ...]:
        """The variants that are played in a scene, in the order of `variants`."""
        only = scene.variants
        return tuple(name for name in self.variants if only is None or name in only)

    def config(self, variant: str, seed: int) -> Config:
        """The settings of a run. Neither environment nor command line has a say in it.

        Errors: config.load.ConfigError for settings that do not exist or do not fit.
        """
        own = {"run.seed": seed, "trainer.device": "cpu", "replay.device": "cpu"}
        values = own | dict(self.settings) | dict(self.variants[variant])
        return config_from(values, preset=self.preset, source=f"study {self.name}, {variant}")

    def options(self, scene: Scene, variant: str = EXPERT) -> SyncTrainerOptions:
        """How a run of a scene is played."""
        own = self.experts.get(variant)
        return SyncTrainerOptions(
            env=scene.env,
            frames=scene.frames or self.frames,
            clients=self.clients,
            weaken=scene.weaken if own is None else 0.0,
            expert=scene.expert if own is None else own,
            eval_every=scene.eval_every or self.eval_every,
            eval_episodes=self.eval_episodes,
            final_episodes=self.final_episodes,
            preprocess=scene.preprocess,
            seconds=self.seconds,
        )


@dataclass(frozen=True)
class Job:
    """A run of a variant, or the expert alone."""

    comparison: str
    scene: str
    variant: str
    """EXPERT for the expert alone."""
    seed: int
    config: Config | None
    """None for the expert alone."""
    options: SyncTrainerOptions
    kept_as: str
    """The name of the file begins with it: the scene, or the game where several scenes share it."""

    @property
    def settings(self) -> dict[str, Any]:
        """All that the outcome depends on, as plain data."""
        options = asdict(self.options)
        if options["preprocess"] is None:  # as when there was no such option
            del options["preprocess"]
        if self.config is None:
            names = ("env", "weaken", "expert", "eval_seed", "final_episodes", "preprocess")
            return {"expert": {name: options[name] for name in names if name in options}}
        config = self.config.model_dump(mode="json", exclude=set(ELSEWHERE))
        earlier = {key: all_settings()[key].default for key in _LATER} | _LATER_DEFAULTS
        for key, before in earlier.items():
            *path, name = key.split(".")
            group = config
            for part in path:
                group = group[part]
            if group[name] == before:
                del group[name]
        for key, values in _UNREAD.items():
            table, name = key.split(".")
            value = config[table][name]
            config[table][name] = values.get(value, value)
        # Under the names that the settings had when the kept results were made.
        config = renamed.with_old_names(config)
        return {"seed": self.seed, "config": config, "options": options}

    @property
    def key(self) -> str:
        """Its name, with a digest of `settings`."""
        text = json.dumps(self.settings, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        who = f"{self.variant}-seed{self.seed}" if self.variant else "expert"
        return re.sub(r"[^\w.+]+", "-", f"{self.kept_as}-{who}-{digest}")

    @property
    def title(self) -> str:
        """What it is, for people."""
        who = f"{self.variant}, seed {self.seed}" if self.variant else "the expert alone"
        return f"{self.comparison}: {self.scene}, {who}"


def jobs(comparison: Comparison, *, seeds: int | None = None, full: bool = False) -> list[Job]:
    """All jobs of a comparison: first the experts, then seed by seed, so that what is known after
    half of the time is about all variants."""
    scenes = [s for s in comparison.scenes if full or s.name not in comparison.full_only]
    count = seeds or (comparison.seeds_full if full else comparison.seeds)
    # Experts: those of the scenes, and those that a scene's student is compared with.
    names = {scene.name for scene in scenes}
    names |= {name for check in comparison.checks if check.scene in names for name in check.scenes}
    taught = [s for s in comparison.scenes if s.name in names and s.expert != NO_EXPERT]
    found = [_job(comparison, scene, EXPERT, 0, None) for scene in taught]
    for seed in range(1, count + 1):
        configs = {name: comparison.config(name, seed) for name in comparison.variants}
        for scene in scenes:
            found += [
                _job(comparison, scene, each, seed, configs[each]) for each in comparison.of(scene)
            ]
    return found


def _job(
    comparison: Comparison, scene: Scene, variant: str, seed: int, config: Config | None
) -> Job:
    options = comparison.options(scene, variant)
    shared = scene.game if options.expert == NO_EXPERT else None
    return Job(comparison.name, scene.name, variant, seed, config, options, shared or scene.name)


def _all_known(where: str, names: tuple[str, ...], known: Any) -> None:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"{where}: expected names of {list(known)}, got {unknown}")
