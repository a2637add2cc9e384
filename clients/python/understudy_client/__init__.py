"""The game side of understudy: send every frame to the training server, get an action back."""

from understudy_client.answers import Answers
from understudy_client.backoff import Backoff
from understudy_client.client import Client
from understudy_client.errors import (
    Cancelled,
    ClientError,
    ConnectionLost,
    ProtocolViolation,
    Reconnected,
    ServerError,
    TlsError,
)
from understudy_client.evaluation import (
    EvaluatedClient,
    EvaluatedEpisode,
    EvaluatedPlayer,
    EvaluationResult,
)
from understudy_client.log import AnswerLog
from understudy_client.observations import Observation
from understudy_client.spec import Continuous, Discrete, GameSpec
from understudy_client.wire import DQN, EXPERT, RUNNING, TERMINATED, TRUNCATED, Answer

__all__ = [
    "DQN",
    "EXPERT",
    "RUNNING",
    "TERMINATED",
    "TRUNCATED",
    "Answer",
    "AnswerLog",
    "Answers",
    "Backoff",
    "Cancelled",
    "Client",
    "ClientError",
    "ConnectionLost",
    "Continuous",
    "Discrete",
    "EvaluatedClient",
    "EvaluatedEpisode",
    "EvaluatedPlayer",
    "EvaluationResult",
    "GameSpec",
    "Observation",
    "ProtocolViolation",
    "Reconnected",
    "ServerError",
    "TlsError",
]
