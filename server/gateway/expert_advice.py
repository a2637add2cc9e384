"""Recommendations of the server's own expert for frames that came without one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.decision import EVAL, EVAL_EXPERT
from protocol.errors import RemoteError
from protocol.messages import RUNNING
from server.gateway.expert_plugin import ExpertPlugin
from server.gateway.frame_batch import FrameBatch
from server.gateway.slots import SlotTable

Rows = npt.NDArray[np.intp]


def add_advice(plugin: ExpertPlugin | None, table: SlotTable, batch: FrameBatch) -> None:
    """Ask the plugin about the frames without a recommendation, and end the connections of the
    role eval_expert that have none even then."""
    if plugin is None and not table.by_role[EVAL_EXPERT]:
        return
    n = batch.n
    rows = batch.row[:n]
    roles = table.role[rows]
    wanted = np.isnan(batch.expert[:n, 0]) & (batch.status[:n] == RUNNING) & (roles != EVAL)
    if plugin is not None:
        for asked, fields in _questions(batch, np.flatnonzero(wanted)):
            of = rows[asked]
            batch.expert[asked] = plugin.ask(
                batch.obs[asked], table.stream[of], ~table.pending[of], fields
            )
    missing = wanted & (roles == EVAL_EXPERT) & np.isnan(batch.expert[:n, 0])
    if missing.any():
        batch.refuse(~missing, _no_advice)


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


def _no_advice(_row: int) -> RemoteError:
    return RemoteError(
        "expert_missing",
        "the role eval_expert plays the expert alone, and the server's own (expert.plugin) has "
        "no advice for a frame; see the server's log, or recommend an action with every frame",
    )
