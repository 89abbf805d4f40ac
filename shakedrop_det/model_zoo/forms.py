"""The forms of each detection config: for which weights it is, and how it is regularized.

A config, such as ``faster_rcnn_R_50_FPN_1x.yaml``, has ShakeDrop in the inverted form, for weights
that were trained without it. Its other forms have the form's name appended, and differ from it in
``MODEL.SHAKEDROP`` alone, but for the weights and pixels of those ending in "pretrained".
"""

from __future__ import annotations

import re
from pathlib import Path

from detectron2.config import CfgNode

from .model_zoo import config_root, get_config, list_configs

FAMILIES = (
    "COCO-Detection",
    "COCO-InstanceSegmentation",
    "COCO-Keypoints",
    "COCO-PanopticSegmentation",
    "Cityscapes",
    "LVISv0.5-InstanceSegmentation",
    "LVISv1-InstanceSegmentation",
    "Misc",
    "PascalVOC-Detection",
)
"""Folders below ``configs/`` whose configs come in all forms."""

FORMS: dict[str, tuple[str, ...]] = {
    "vanilla": ("vanilla",),
    "random_drop": ("random_drop",),
    "erase_relu": ("erase_relu",),
    "pretrained": ("pretrained",),
    "erase_relu_pretrained": ("erase_relu", "pretrained"),
}
"""The files of ``configs/Base-Form`` that make up each form."""


def base_configs() -> list[str]:
    """Names of the configs that the forms are made of, sorted."""
    endings = tuple(f"_{form}.yaml" for form in FORMS)
    names = (name for name in list_configs() if name.split("/")[0] in FAMILIES)
    return [name for name in names if not name.endswith(endings)]


def form_files(name: str) -> dict[str, str]:
    """The other forms of a config.

    Args:
        name: one of :func:`base_configs`.

    Returns:
        dict: the text of each file by its name. A config that trains from scratch, without
        ``MODEL.WEIGHTS``, has no forms for pretrained weights.
    """
    cfg = get_config(name)
    stem = name.removesuffix(".yaml")
    files = {}
    for form, parts in FORMS.items():
        if "pretrained" in parts and not cfg.MODEL.WEIGHTS:
            continue
        bases = [f"{Path(stem).name}.yaml", *(f"../Base-Form/{part}.yaml" for part in parts)]
        text = f"_BASE_: [{', '.join(f'{base!r}' for base in bases)}]\n".replace("'", '"')
        if "pretrained" in parts:
            erase_relu = "_erase_relu" if "erase_relu" in parts else ""
            path = f"weights/{_pretrained(name, cfg)}_shakedrop{erase_relu}.pth"
            text += f'MODEL:\n  WEIGHTS: "{path}"\n'
        files[f"{stem}_{form}.yaml"] = text
    return files


def _pretrained(name: str, cfg: CfgNode) -> str:
    """What is trained before: the classifier of that backbone, or a detector for Cityscapes."""
    match = re.search(r"[RX]_\d+(_\d+x\d+d)?", name)
    assert match, name
    backbone = match[0]
    if name.startswith("Cityscapes/"):
        return f"mask_rcnn_{backbone}_FPN_3x"
    return f"{backbone}_gn" if cfg.MODEL.RESNETS.NORM == "GN" else backbone


def write_forms() -> list[str]:
    """Write the forms of all configs into the tree of a source checkout.

    Returns:
        list[str]: names of the files that were not there, or were different.
    """
    changed = []
    for base in base_configs():
        for name, text in form_files(base).items():
            path = config_root() / name
            if not path.is_file() or path.read_text() != text:
                path.write_text(text)
                changed.append(name)
    return changed
