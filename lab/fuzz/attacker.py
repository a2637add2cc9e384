"""A connection that keeps no rules: what hostile connections of all kinds are made with."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from lab.fuzz.mutator import Mutator
from lab.fuzz.well_behaved import SPEC
from protocol import codec
from protocol.messages import HelloFields
from server.net.plain_messages import message


class Attacker:
    """A connection that keeps no rules, and what it can send."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rng: random.Random,
        mutator: Mutator,
    ) -> None:  # fmt: skip
        self.reader, self.writer, self.rng, self.mutator = reader, writer, rng, mutator

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def hello(self, slots: int = 1, role: str = "train") -> None:
        fields = HelloFields(
            protocol=1, client="hostile/1", game=SPEC.game, observation=SPEC.observation,
            actions=SPEC.actions, rewards=SPEC.rewards, slots=slots, role=role,  # type: ignore[arg-type]
        )  # fmt: skip
        await self.send(codec.encode_hello(fields))
        await self.answer()

    async def answer(self) -> None:
        head = await self.reader.readexactly(4)
        await self.reader.readexactly(int.from_bytes(head, "big"))

    def frame(self, seq: int, slot: int = 0, **changes: Any) -> bytes:
        obs = changes.get("obs", bytes(SPEC.observation_bytes))
        parts = (2, slot, seq, obs, changes.get("reward", [0.0, 0.0]), 0, None, None)
        return message(*parts)
