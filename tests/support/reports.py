"""Reports of gateways, written out."""

from __future__ import annotations

from typing import Any

from server.ipc.messages import GatewayReport


def report(index: int = 0, **changes: Any) -> GatewayReport:
    """Of a gateway where nothing has happened, but for `changes`."""
    values: dict[str, Any] = {
        "index": index,
        "frames": {"train": 0, "eval": 0, "eval_expert": 0},
        "clients": 0,
        "slots": 0,
        "errors": {},
        "turns": 0,
        "turn_p50_ms": 0.0,
        "turn_p99_ms": 0.0,
        "stalls": 0,
        "policy_version": 0,
        "expert_ratio": 0.0,
        "epsilon": 0.0,
    }
    return GatewayReport(**(values | changes))
