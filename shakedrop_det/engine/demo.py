"""The demo: both training stages on handwritten digits, a table of results and pictures."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any, Dict, List

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.engine import default_setup
from detectron2.utils.logger import create_small_table

from shakedrop_det import model_zoo
from shakedrop_det.data import digit_scenes

PRETRAINING = "Demo/digits_classification.yaml"
DETECTION = "Demo/mask_rcnn_digit_scenes.yaml"


def run_demo(output: Path) -> Dict[str, Dict[str, float]]:
    """Pretrain on single digits, fine-tune Mask R-CNN on scenes of them, evaluate and draw.

    Args:
        output: folder for everything that is made. Results of an earlier run are replaced.

    Returns:
        dict: the COCO metrics of the held-out scenes, under "bbox" and "segm", in percent.
    """
    raise NotImplementedError
