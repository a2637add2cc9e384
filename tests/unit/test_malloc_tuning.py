"""agent/malloc_tuning.py: page faults of memory that is used again."""

from __future__ import annotations

import platform
import resource

import numpy as np
import pytest

from agent.malloc_tuning import keep_freed_memory


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator is told")
def test_what_was_freed_and_is_used_again_costs_no_pages() -> None:
    keep_freed_memory()
    rows, pages, rounds = 3 * 2**20, 3 * 2**20 // resource.getpagesize(), 10

    def work() -> None:
        # All at once, and then none: what an update does with its intermediate results.
        parts = [np.empty(rows, np.uint8) for _ in range(8)]
        for part in parts:
            part.fill(1)

    work()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        work()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    assert faults < pages, f"{faults} faults in {rounds} rounds over {8 * pages} pages"
