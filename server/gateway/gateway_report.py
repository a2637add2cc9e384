"""A gateway's report to the supervisor: counters since its start, and how it goes now."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from agent.decision import TRAIN, ActingParams
from protocol.actor import TAG_COUNT
from server.gateway.connection import GameConnection
from server.gateway.connection_log import ConnectionLog
from server.gateway.evaluation_watch import EvaluationWatch
from server.gateway.frame_loop import FrameLoop
from server.gateway.gateway_run import GatewayRun
from server.gateway.tempest import OlderClients
from server.gateway.turn_scheduler import TurnScheduler
from server.ipc.messages import GatewayReport


def gateway_report(
    index: int,
    connections: Iterable[GameConnection],
    log: ConnectionLog,
    scheduler: TurnScheduler,
    older: OlderClients,
    acting: ActingParams,
    run: GatewayRun | None,
    watch: EvaluationWatch,
) -> GatewayReport:
    """What a gateway says of itself. It takes the episodes that have finished, and what the log has
    found: each is reported once."""
    connections = list(connections)
    report = GatewayReport(
        index=index,
        frames={},
        clients=len(connections),
        slots=0,
        errors=dict(log.errors),
        turns=0,
        turn_p50_ms=math.nan,
        turn_p99_ms=math.nan,
        stalls=scheduler.stalls,
        held=scheduler.held,
        misreads=older.misreads.count,
        game=older.numbers.take(),
        policy_version=0,
        expert_ratio=acting.expert_ratio,
        epsilon=acting.epsilon,
        findings=log.take_findings(),
        failures=log.take_failures(),
        time=time.monotonic(),
    )
    return report if run is None else _of_run(report, run, connections, watch)


def _of_run(
    report: GatewayReport,
    run: GatewayRun,
    connections: list[GameConnection],
    watch: EvaluationWatch,
) -> GatewayReport:
    loop, times = run.frame_loop, run.frame_loop.times
    playing = [each for each in connections if len(each.rows)]
    p50_ms, p99_ms = times.percentiles_ms()
    reward_parts, reward_steps = loop.reward_parts.take()
    numbers = list(loop.numbers)
    loop.numbers.clear()
    return replace(
        report,
        opened=True,
        frames=loop.frames,
        slots=loop.slots,
        training=loop.table.by_role[TRAIN],
        turns=times.turns,
        turn_p50_ms=p50_ms,
        turn_p99_ms=p99_ms,
        policy_version=run.policy.version,
        episodes=loop.episodes.take(),
        game=replace(
            report.game,
            numbers=numbers,
            reward_parts=reward_parts,
            reward_steps=reward_steps,
        ),
        takeovers=(loop.takeovers.begun, loop.takeovers.frames),
        # Not gone before what it played is told: that is in `episodes` from the same turn on.
        evaluating=watch.games([*connections, *cast(Any, loop.leaving)], loop.table),
        run_frames=run.frames,
        expert_failures=run.expert_failures,
        findings=[*report.findings, *(loop.expert.take_findings() if loop.expert else [])],
        sessions=[each.number for each in playing],
        played=_played(loop, playing),
        turn_buckets=times.buckets,
        turn_seconds=times.seconds,
    )


def _played(loop: FrameLoop, playing: list[GameConnection]) -> npt.NDArray[np.int64]:
    """Frames of these connections by who acted, [n, TAG_COUNT]."""
    if not playing:
        return np.zeros((0, TAG_COUNT), np.int64)
    starts, n = [], 0
    for connection in playing:
        starts.append(n)
        n += len(connection.rows)
    return loop.played(np.concatenate([each.rows for each in playing]), starts)
