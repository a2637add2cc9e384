"""Whether strangers can use the cluster: whoever reaches Ray's ports can run any program on every
node, unless Ray asks for a token."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping

from config.load import ConfigError
from config.models import Config

REFUSAL = (
    "the cluster has several machines ({machines}), and its Ray asks for no token{where}: whoever "
    "reaches a port of it can run programs on every node. Start Ray on every node, and this "
    "server, with RAY_AUTH_MODE=token and one token (`ray get-auth-token --generate`), or pass "
    "--cluster.insecure where nobody else reaches them. A run does not save it: --resume needs it "
    "again"
)


def asks_for_token(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether Ray of a process with this environment does: what a node starts has the node's."""
    return environ.get("RAY_AUTH_MODE", "").lower() == "token"


def check(config: Config, machines: Collection[str], open_at: Collection[str]) -> list[str]:
    """Whether the cluster may be used. `machines`: its addresses. `open_at`: of those, and of this
    server, where Ray asks for no token. Returns what the operator should be reminded of. Errors:
    ConfigError where strangers may reach it and the operator has not said that it is meant."""
    if len(set(machines)) < 2:
        return []
    said = []
    if open_at:
        told = ", ".join(sorted(set(machines)))
        if not config.cluster.insecure:
            where = f" at {', '.join(sorted(set(open_at)))}"
            raise ConfigError(REFUSAL.format(machines=told, where=where))
        said.append(f"whoever reaches Ray's ports on {told} can run programs there: no token")
    if os.environ.get("RAY_USE_TLS", "0") != "1":
        said.append(
            "what goes between the machines of the cluster is not encrypted: set RAY_USE_TLS=1 on "
            "all of them where others share the network"
        )
    return said
