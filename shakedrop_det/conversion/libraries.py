"""Load networks of torchvision and timm by name."""

from __future__ import annotations

from typing import Any

import torchvision
from torch import nn

from shakedrop_det.checkpoint.state_dict import StateDict, load_exactly

LIBRARIES = ("torchvision", "timm")


def load_network(source: str, state: StateDict | None = None) -> tuple[nn.Module, dict[str, Any]]:
    """Build a network with the library's weights or with given ones.

    Args:
        source: ``torchvision:NAME`` or ``timm:NAME``. The name may include that of its weights, as
            in ``torchvision:resnet50.IMAGENET1K_V1``.
        state: weights to load instead of the library's.

    Returns:
        tuple[nn.Module, dict]: the network, and its ``MODEL.PIXEL_MEAN`` and ``MODEL.PIXEL_STD`` as
        far as the library specifies them.

    Raises:
        ValueError: if the network does not exist, the library or the weights are unavailable, or
            ``state`` does not fit the network.
    """
    library, _, name = source.partition(":")
    load = _load_torchvision if library == "torchvision" else _load_timm
    network, pixels = load(name, state)
    network.float().eval()
    if state is not None:
        if "fc.weight" not in state and isinstance(getattr(network, "fc", None), nn.Linear):
            network.fc = nn.Identity()
        load_exactly(network, state)
    return network, pixels


def _load_torchvision(name: str, state: StateDict | None) -> tuple[nn.Module, dict[str, Any]]:
    architecture, _, weights_name = name.partition(".")
    if architecture not in torchvision.models.list_models():
        names = ", ".join(torchvision.models.list_models(include=["*resnet*", "*resnext*"]))
        raise ValueError(f"torchvision has no model {architecture!r}; its ResNets: {names}")
    choices = torchvision.models.get_model_weights(architecture)
    weights_name = weights_name or "DEFAULT"
    if weights_name not in choices.__members__:
        known = ", ".join(choices.__members__)
        raise ValueError(f"torchvision's {architecture} has weights {known}, not {weights_name!r}")
    weights = choices[weights_name]
    network = torchvision.models.get_model(architecture, **_num_classes(state))
    if state is None:
        try:
            found = weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
        except (OSError, RuntimeError) as error:
            raise _not_available(f"torchvision:{name}", error) from error
        load_exactly(network, found)
    preset = weights.transforms()
    return network, _pixels(getattr(preset, "mean", None), getattr(preset, "std", None))


def _load_timm(name: str, state: StateDict | None) -> tuple[nn.Module, dict[str, Any]]:
    try:
        import timm
    except ImportError as error:
        raise ValueError("timm:NAME needs the package timm: pip install timm") from error
    if not timm.is_model(name):
        similar = ", ".join(timm.list_models(f"*{name.partition('.')[0]}*")) or "timm.list_models()"
        raise ValueError(f"timm has no model {name!r}; see {similar}")
    try:
        network = timm.create_model(name, pretrained=state is None, **_num_classes(state))
    # timm and its download libraries raise many types of errors.
    except Exception as error:
        raise _not_available(f"timm:{name}", error) from error
    pretrained: Any = network.pretrained_cfg
    return network, _pixels(pretrained.get("mean"), pretrained.get("std"))


def _num_classes(state: StateDict | None) -> dict[str, Any]:
    """Return the number of classes of the given weights; nothing to use the library's default."""
    if state is None or "fc.weight" not in state:
        return {}
    return {"num_classes": state["fc.weight"].shape[0]}


def _pixels(mean: Any, std: Any) -> dict[str, Any]:
    """Scale from the range 0 to 1 to 0 to 255, and round as in configs."""
    given = {"MODEL.PIXEL_MEAN": mean, "MODEL.PIXEL_STD": std}
    return {key: [round(255 * x, 4) for x in value] for key, value in given.items() if value}


def _not_available(source: str, error: Exception) -> ValueError:
    reason = (str(error) or type(error).__name__).strip().partition("\n")[0]
    return ValueError(
        f"The weights of {source} are not in the library's cache and cannot be downloaded "
        f"({reason}): get the file in another way and pass --weights FILE"
    )
