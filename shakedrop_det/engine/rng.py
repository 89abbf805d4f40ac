"""State of the random number generators of a process."""

from __future__ import annotations

import contextlib
import random
from typing import Any, Iterator

import numpy as np
import torch


def rng_state(device: torch.device | None = None) -> dict[str, Any]:
    """Return the state of the generators of Python, numpy and torch.

    Args:
        device: Device of the model. The generator of a CUDA device is included.

    Returns:
        A dict of tensors, numbers, strings and tuples only, so that loading it from a file does not
        require trusting the file.
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
    """Restore the state of the generators.

    Args:
        state: State from :func:`rng_state`.
        device: CUDA device to whose generator the CUDA part, if any, is applied.
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
    """Restore the state of the generators at the end of the block.

    Args:
        device: See :func:`rng_state`.
    """
    state = rng_state(device)
    try:
        yield
    finally:
        set_rng_state(state, device)


def seed_cpu_rng(seed: int, position: int) -> None:
    """Seed the generators of Python, numpy and torch's CPU from two numbers.

    CUDA generators are left alone, since a process that loads data may also train.

    Args:
        seed: Any integer. ``SEED -1`` gives detectron2's samplers a negative one.
        position: Nonnegative integer. Nearby numbers give unrelated streams.
    """
    # SeedSequence rejects negative numbers; torch's generators wrap them around in the same way.
    entropy = (seed % 2**64, position)
    words = np.random.SeedSequence(entropy).generate_state(4, np.uint32)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch.default_generator.manual_seed(int(words[2]) << 32 | int(words[3]))
