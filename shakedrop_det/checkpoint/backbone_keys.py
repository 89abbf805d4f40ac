"""Checks of whether a file has the backbone weights of a model."""

from __future__ import annotations

import re
from typing import Iterable, Mapping

from torch import Tensor

CLASSIFIER_BACKBONE = "backbone.bottom_up."
CLASSIFIER_HEAD = "linear."
RES5_HEAD = "roi_heads.res5."
STATISTICS = (".running_mean", ".running_var")
_NEW = re.compile(r"\.conv2_offset\.|^backbone\.(bottom_up\.)?norm\d+\.")
"""Names of weights that pretraining does not have: the offsets of deformable convolutions, which
begin as 0, and the norms of a transformer's feature maps, such as a Swin's."""

_MOST = 10
_BLOCK = re.compile(r"(?:^|\.)(res[2-5])\.(\d+)\.")


def classifier_backbone(
    state: Mapping[str, Tensor], model_state: Mapping[str, Tensor]
) -> dict[str, Tensor] | None:
    """Return the ResNet's weights if the file is from an image classifier and the model is not one.

    Args:
        state: Weights in the file.
        model_state: State dict of the model to load them into.

    Returns:
        The weights under their names in the ResNet, such as ``res2.0.conv1.weight``; None for other
        files and models.
    """
    if not _is_classifier(state) or _is_classifier(model_state):
        return None
    start = len(CLASSIFIER_BACKBONE)
    return {
        key[start:]: value
        for key, value in state.items()
        # Frozen norms, the usual ones in detectors, do not have this counter.
        if key.startswith(CLASSIFIER_BACKBONE) and not key.endswith(".num_batches_tracked")
    }


def _is_classifier(state: Mapping[str, Tensor]) -> bool:
    prefixes = (CLASSIFIER_BACKBONE, CLASSIFIER_HEAD)
    return f"{CLASSIFIER_HEAD}weight" in state and all(key.startswith(prefixes) for key in state)


def backbone_prefixes(model_state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Return the prefixes of weights that pretraining provides, without those of an FPN."""
    under_fpn = any(key.startswith(CLASSIFIER_BACKBONE) for key in model_state)
    return (CLASSIFIER_BACKBONE if under_fpn else "backbone.", RES5_HEAD)


def check_backbone(
    state: Mapping[str, Tensor], model_state: Mapping[str, Tensor], *, source: str
) -> None:
    """Check that a file has all weights of the backbone that pretraining provides, in the right
    shapes.

    Args:
        state: Weights in the file, under the model's names.
        model_state: State dict of the model.
        source: Path of the file, for the message.

    Raises:
        ValueError: If it does not. The message lists the first of those keys.
    """
    problems = _misfits(state, model_state)
    if problems:
        raise ValueError(
            f"{source!r} does not fit the backbone in {len(problems)} weights: "
            f"{_first(problems)}. Set MODEL.WEIGHTS to weights of this network, or configure the "
            "network of the file (MODEL.RESNETS.DEPTH, WIDTH_PER_GROUP, NUM_GROUPS, "
            'STEM_OUT_CHANNELS, RES2_OUT_CHANNELS, NORM), or set MODEL.WEIGHTS "" to start from '
            "random weights."
        )


def check_depth(
    state: Mapping[str, Tensor], model_state: Mapping[str, Tensor], *, source: str
) -> None:
    """Check that no stage of a file has more blocks than the backbone.

    The blocks that both have may fit, as those of a ResNet-34 fit a ResNet-18.

    Args:
        state, model_state, source: See :func:`check_backbone`; the names may still be those in a
            ResNet.

    Raises:
        ValueError: If one has more. The message gives both numbers.
    """
    in_file, in_model = _num_blocks(state), _num_blocks(model_state)
    wrong = [stage for stage, blocks in in_model.items() if in_file.get(stage, 0) > blocks]
    if wrong:
        numbers = ", ".join(f"{in_file[s]} in {s} rather than {in_model[s]}" for s in wrong)
        raise ValueError(
            f"{source!r} is from a deeper network, with more residual blocks: {numbers}. Set "
            "MODEL.RESNETS.DEPTH to that of the file, or MODEL.WEIGHTS to weights of this network."
        )


def check_complete(
    missing: Iterable[str],
    *,
    source: str,
    remedy: str = "Set MODEL.WEIGHTS to a checkpoint of the whole trained model.",
) -> None:
    """Check that no weights are missing; a network would compute with random ones instead.

    Args:
        missing: Names of the model's weights that a file lacks or has in another shape.
        source: Path of the file, for the message.
        remedy: Last sentence of the message.

    Raises:
        ValueError: If there are any. The message lists the first of the modules that lack weights.
    """
    keys = [key for key in missing if not key.endswith(".num_batches_tracked")]
    if keys:
        modules = list(dict.fromkeys(key.rpartition(".")[0] for key in keys))
        raise ValueError(
            f"{source!r} lacks {len(keys)} weights of this model, or has them in another shape; "
            f"they would be random in {_first(modules)}. {remedy}"
        )


def _first(names: list[str]) -> str:
    """List the first names, and how many more there are."""
    more = len(names) - _MOST
    return ", ".join(names[:_MOST]) + (f", and {more} more" if more > 0 else "")


def _num_blocks(state: Mapping[str, Tensor]) -> dict[str, int]:
    found: dict[str, int] = {}
    for key in state:
        match = _BLOCK.search(key)
        if match:
            found[match[1]] = max(found.get(match[1], 0), int(match[2]) + 1)
    return found


def _misfits(state: Mapping[str, Tensor], model_state: Mapping[str, Tensor]) -> list[str]:
    prefixes = backbone_prefixes(model_state)
    keys = [key for key in model_state if key.startswith(prefixes)]
    # Files from Caffe2 have no statistics: they are folded into each norm's weight and bias.
    has_statistics = any(key.endswith(STATISTICS) for key in state)
    names = {key: _name_in_file(state, key) for key in keys}
    problems = []
    for key in keys:
        if key.endswith(".num_batches_tracked") or (
            not has_statistics and key.endswith(STATISTICS)
        ):
            continue
        name, shape = names[key], tuple(model_state[key].shape)
        if name is None:
            if not _NEW.search(key):
                problems.append(f"{key}: missing in the file, {shape} in the model")
        elif state[name].shape != model_state[key].shape:
            problems.append(f"{key}: {tuple(state[name].shape)} in the file, {shape} in the model")
        elif name != key:
            problems.append(
                f"{key}: named {name} in the file, add '?matching_heuristics=True' to its path"
            )
    return problems


def _name_in_file(state: Mapping[str, Tensor], key: str) -> str | None:
    """Return the longest suffix of ``key`` that the file has, which may be its name there."""
    parts = key.split(".")
    # Two parts, as in "conv1.weight", could belong to any layer.
    endings = (".".join(parts[start:]) for start in range(len(parts) - 2))
    return next((name for name in endings if name in state), None)
