"""Memory that is freed, and asked for again."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest
import torch

_SIZE = 64 * 2**20


def new_pages() -> int:
    """That the process gets while it fills a large tensor that it had several times before.

    Once isn't enough: glibc asks for a little more than an aligned block takes, so that a block
    that was freed may be too short for the next of the same size, until one with a margin is free.
    """
    for _ in range(8):
        torch.zeros(_SIZE, dtype=torch.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.zeros(_SIZE, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(sys.platform != "linux", reason="needs the settings of glibc")
@pytest.mark.slow
def test_memory_that_was_freed_needs_no_new_pages() -> None:
    """In a process of its own, since the setting lasts as long as the process."""
    code = (
        "from shakedrop_det.benchmark import keep_freed_memory\n"
        "from tests.benchmark.test_allocator import new_pages\n"
        "print(new_pages(), keep_freed_memory(), new_pages())"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, known, after = found.stdout.split()
    if known == "False":
        pytest.skip("another C library")
    assert int(before) >= _SIZE / 2**21 and int(after) < 16
