"""Loading a state dict into a network, completely or not at all."""

from __future__ import annotations

from torch import Tensor, nn

StateDict = dict[str, Tensor]

COUNTER = ".num_batches_tracked"
"""Suffix of BatchNorm's counter, which frozen norms, the usual ones in detectors, do not have."""


def load_exactly(network: nn.Module, state: StateDict) -> None:
    """Load each weight and statistic of a network from the tensor of its name.

    Args:
        network: Network to load into.
        state: The tensors of the network in their shapes, and no others. BatchNorm's counters may
            be missing, and there may be counters of norms that are frozen in the network.

    Raises:
        ValueError: If tensors are missing, superfluous or of another shape. The message lists them.
    """
    model_state = network.state_dict()
    problems = [f"{key}: missing" for key in model_state if key not in state]
    problems = [problem for problem in problems if f"{COUNTER}:" not in problem]
    for key, value in state.items():
        shape = tuple(value.shape)
        if key not in model_state and not key.endswith(COUNTER):
            problems.append(f"{key}: {shape}, not in the network")
        elif key in model_state and value.shape != model_state[key].shape:
            problems.append(f"{key}: {shape}, but {tuple(model_state[key].shape)} in the network")
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise ValueError(
            f"The weights do not fit the {type(network).__name__} that they seem to belong to in "
            f"{len(problems)} tensors:\n{lines}"
        )
    network.load_state_dict(state, strict=False)
