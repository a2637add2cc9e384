"""The decoder fuzzed by coverage, with atheris: `python -m lab.fuzz.coverage`, and behind it
options of libFuzzer.

A process of its own, for libFuzzer ends the one that it runs in. The first byte of an input says
which format it is in, the second how it is split; half of the mutations are those of
`lab.fuzz.mutator`, which know what a message is.
"""

from __future__ import annotations

import gc
import random
import sys

import atheris

with atheris.instrument_imports(include=["protocol"]):
    from lab.fuzz.mutator import KINDS, Mutator
    from lab.fuzz.streams import check


def test_one(data: bytes) -> None:
    """An input of libFuzzer. Errors: BrokenPromise."""
    if len(data) >= 2:
        check(data[0] % len(KINDS), data[2:], random.Random(data[1]))


def main() -> None:
    """Fuzz until `-runs` inputs were tried, or one broke a promise."""
    mutator = Mutator(0)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if rng.random() < 0.5 or len(data) < 2:
            kind = rng.randrange(len(KINDS))
            return (bytes([kind, rng.randrange(256)]) + mutator.mutated(kind, rng))[:max_size]
        return bytes(atheris.Mutate(data, max_size))

    atheris.Setup(sys.argv, test_one, custom_mutator=mutate)
    gc.freeze()
    atheris.Fuzz()


if __name__ == "__main__":
    main()
