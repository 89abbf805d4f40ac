"""The state of the random number generators of a process."""

from __future__ import annotations

import contextlib
import random
from typing import Any, Iterator

import numpy as np
import torch


def rng_state(device: torch.device | None = None) -> dict[str, Any]:
    """The state of the generators of Python, numpy and torch.

    Args:
        device: of the model; if it is a CUDA device, its generator's state is included.

    Returns:
        dict: of tensors, numbers, strings and tuples only, so that it can be read from a file
        without trusting it.
    """
    numpy: Any = np.random.get_state(legacy=True)
    name, keys, *rest = numpy
    # int64, since numpy's uint32 has no counterpart that all versions of torch can save.
    numpy_state = (name, torch.from_numpy(keys.astype(np.int64)), *rest)
    state = {"python": random.getstate(), "numpy": numpy_state, "torch": torch.get_rng_state()}
    if device is not None and device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_rng_state(state: dict[str, Any], device: torch.device | None = None) -> None:
    """Set the generators to what :func:`rng_state` gave.

    Args:
        state: see there.
        device: whose generator gets the part for CUDA, if there is one.
    """
    version, numbers, gauss_next = state["python"]
    random.setstate((version, tuple(numbers), gauss_next))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and device is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


@contextlib.contextmanager
def preserved_rng(device: torch.device | None = None) -> Iterator[None]:
    """Leave the generators as they were before the block.

    Args:
        device: see :func:`rng_state`.
    """
    state = rng_state(device)
    try:
        yield
    finally:
        set_rng_state(state, device)


def seed_cpu_rng(seed: int, position: int) -> None:
    """Seed the generators of Python, numpy and torch's CPU from two numbers.

    Those of CUDA stay as they are: a process that loads data may train as well.

    Args:
        seed: any integer. Negative ones are what ``SEED -1`` gives to detectron2's samplers.
        position: not negative. Close numbers give unrelated streams.
    """
    # SeedSequence takes no negative numbers; torch's generators wrap them around in the same way.
    entropy = (seed % 2**64, position)
    words = np.random.SeedSequence(entropy).generate_state(4, np.uint32)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch.default_generator.manual_seed(int(words[2]) << 32 | int(words[3]))
