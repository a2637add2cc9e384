"""Recommendations of the server's own expert for frames that came without one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.decision import EVAL_EXPERT, TRAIN
from agent.legal_choices import made_legal
from protocol.checks import no_advice
from protocol.messages import RUNNING
from protocol.spaces import GameSpec
from server.gateway.expert_plugin import ExpertPlugin
from server.gateway.frame_batch import FrameBatch
from server.gateway.slots import SlotTable

Rows = npt.NDArray[np.intp]


def add_advice(
    plugin: ExpertPlugin | None,
    table: SlotTable,
    batch: FrameBatch,
    neutral: npt.NDArray[np.float32],
    spec: GameSpec,
) -> None:
    """Ask the plugin about the frames without a recommendation.

    Where the expert plays alone (role eval_expert) and knows nothing even then, the rule of
    protocol/SPEC.md, Roles: the episode's last action again, before there is one `neutral`
    [action_width], and the first legal choice instead of one that is not legal. The connections of
    episodes that end without any recommendation are ended.
    """
    if plugin is None and not table.by_role[EVAL_EXPERT]:
        return
    n = batch.n
    rows = batch.row[:n]
    roles = table.role[rows]
    wanted = np.isnan(batch.expert[:n, 0]) & (batch.status[:n] == RUNNING)
    wanted &= (roles == TRAIN) | (roles == EVAL_EXPERT)
    if plugin is not None:
        for asked, fields in _questions(batch, np.flatnonzero(wanted)):
            of = rows[asked]
            batch.expert[asked] = plugin.ask(
                batch.obs[asked],
                table.stream[of],
                ~table.pending[of],
                fields,
                batch.choices[asked] if spec.masks else None,
            )
    if table.by_role[EVAL_EXPERT]:
        _fill(table, batch, wanted & (roles == EVAL_EXPERT), neutral, spec)


def _fill(
    table: SlotTable,
    batch: FrameBatch,
    wanted: npt.NDArray[np.bool_],
    neutral: npt.NDArray[np.float32],
    spec: GameSpec,
) -> None:
    """Fill the gaps of experts that play alone. `wanted` [n]: their frames to which the game itself
    has given no recommendation."""
    rows = batch.row[: batch.n]
    missing = np.flatnonzero(wanted & np.isnan(batch.expert[: batch.n, 0]))
    if len(missing):
        of = rows[missing]
        actions = np.where(table.pending[of, None], table.action[of], neutral)
        if spec.masks:
            legal = batch.choices[missing]
            made_legal(actions, legal, spec.discrete_columns, spec.choice_columns)
        batch.expert[missing] = actions
        table.filled[of] += 1
    over = (batch.status[: batch.n] != RUNNING) & (table.role[rows] == EVAL_EXPERT)
    # The last action of an episode is not yet in its length: this frame completes it.
    silent = over & table.pending[rows] & (table.filled[rows] > table.episode_length[rows])
    if silent.any():
        batch.refuse(~silent, lambda _row: no_advice())


def _questions(
    batch: FrameBatch, wanted: Rows
) -> Iterator[tuple[Rows, Mapping[str, npt.NDArray[Any]]]]:
    """These rows, those without a context first, then those of each kind of context apart, each
    with what its contexts tell the expert."""
    contexts = batch.contexts()
    if not contexts:
        if len(wanted):
            yield wanted, {}
        return
    by_kind: dict[Any, list[int]] = {type(None): []}
    for row in wanted.tolist():
        by_kind.setdefault(type(contexts.get(row)), []).append(row)
    for kind, asked in by_kind.items():
        if asked:
            found = [contexts[row] for row in asked if row in contexts]
            yield np.array(asked, np.intp), kind.expert_fields(found) if found else {}
