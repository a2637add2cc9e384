"""Every setting there is: frozen models, unknown keys refused, each field with its unit.

The docstring under a field is its documentation: `--help`, `understudy config show` and
docs/configuration.md are made from it. A field without one fails a test. Each group has a file in
`config/settings`.
"""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from config.settings.advantage import AdvantageConfig
from config.settings.base import (
    NONE,
    ActorName,
    Expected,
    FractionSchedule,
    Live,
    Schedule,
    Section,
    Unit,
    Unsaved,
)
from config.settings.checkpoint import CheckpointConfig
from config.settings.cluster import ClusterConfig
from config.settings.evaluation import EvaluationConfig
from config.settings.expert import ExpertConfig
from config.settings.exploration import ExplorationConfig
from config.settings.health import HealthConfig
from config.settings.imitation import ImitationConfig
from config.settings.learner import LearnerConfig
from config.settings.lessons import LessonsConfig
from config.settings.metrics import MetricsConfig
from config.settings.replay import ReplayConfig
from config.settings.reward import RewardConfig
from config.settings.run import RunConfig
from config.settings.server import ServerConfig
from config.settings.supervision import SupervisionConfig
from config.settings.tempest import MAX_START_LEVEL, START_ADVANCED, START_LEVEL, TempestConfig
from config.settings.trainer import TrainerConfig

__all__ = (
    "MAX_START_LEVEL",
    "NONE",
    "START_ADVANCED",
    "START_LEVEL",
    "ActorName",
    "AdvantageConfig",
    "CheckpointConfig",
    "ClusterConfig",
    "Config",
    "EvaluationConfig",
    "Expected",
    "ExpertConfig",
    "ExplorationConfig",
    "FractionSchedule",
    "HealthConfig",
    "ImitationConfig",
    "LearnerConfig",
    "LessonsConfig",
    "Live",
    "MetricsConfig",
    "ReplayConfig",
    "RewardConfig",
    "RunConfig",
    "Schedule",
    "Section",
    "ServerConfig",
    "SupervisionConfig",
    "TempestConfig",
    "TrainerConfig",
    "Unit",
    "Unsaved",
)


class Config(Section):
    """All settings of a run, a group for each part."""

    run: RunConfig = RunConfig()
    server: ServerConfig = ServerConfig()
    tempest: TempestConfig = TempestConfig()
    reward: RewardConfig = RewardConfig()
    expert: ExpertConfig = ExpertConfig()
    exploration: ExplorationConfig = ExplorationConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    lessons: LessonsConfig = LessonsConfig()
    replay: ReplayConfig = ReplayConfig()
    learner: LearnerConfig = LearnerConfig()
    imitation: ImitationConfig = ImitationConfig()
    advantage: AdvantageConfig = AdvantageConfig()
    trainer: TrainerConfig = TrainerConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    health: HealthConfig = HealthConfig()
    metrics: MetricsConfig = MetricsConfig()
    supervision: SupervisionConfig = SupervisionConfig()
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.trainer.min_steps > self.replay.capacity_steps:
            raise ValueError(
                f"trainer.min_steps is {self.trainer.min_steps} and replay.capacity_steps "
                f"{self.replay.capacity_steps}; training would never begin"
            )
        return self

    @model_validator(mode="after")
    def _start_levels(self) -> Self:
        if self.tempest.port is not None:
            advanced = self.server.settings.get(START_ADVANCED, False)
            level = self.server.settings.get(START_LEVEL, 1)
            if type(advanced) is not bool:
                raise ValueError(
                    f"server.settings has {START_ADVANCED} = {advanced!r}; with tempest.port "
                    "expected true or false"
                )
            if type(level) is not int or not 1 <= level <= MAX_START_LEVEL:
                raise ValueError(
                    f"server.settings has {START_LEVEL} = {level!r}; with tempest.port expected a "
                    f"whole number from 1 to {MAX_START_LEVEL}"
                )
        return self
