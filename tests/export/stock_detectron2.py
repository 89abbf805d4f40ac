"""Run by test_folding.py: detectron2 alone, where shakedrop_det cannot be imported.

    python stock_detectron2.py FOLDER NAME...

Builds the models of FOLDER/NAME/config.yaml, loads their weights strictly, and writes what they
detect in FOLDER/image.pt to FOLDER/NAME/found.pth.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.modeling import build_model


def main(folder: Path, name: str) -> None:
    cfg = get_cfg()
    cfg.merge_from_file(str(folder / name / "config.yaml"))
    model = build_model(cfg).eval()
    model.load_state_dict(torch.load(cfg.MODEL.WEIGHTS, weights_only=True)["model"], strict=True)
    strictly = {key: value.clone() for key, value in model.state_dict().items()}
    torch.nn.init.zeros_(next(model.parameters()))
    DetectionCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    for key, value in model.state_dict().items():
        assert torch.equal(value, strictly[key]), key
    with torch.no_grad():
        (output,) = model([{"image": torch.load(folder / "image.pt")}])
    fields = output["instances"].get_fields()
    found = {field: getattr(value, "tensor", value) for field, value in fields.items()}
    torch.save(found, folder / name / "found.pth")


if __name__ == "__main__":
    sys.modules["shakedrop_det"] = None  # type: ignore[assignment]  # importing it is an error
    for each in sys.argv[2:]:
        main(Path(sys.argv[1]), each)
    assert not [module for module in sys.modules if module.startswith("shakedrop_det.")]
