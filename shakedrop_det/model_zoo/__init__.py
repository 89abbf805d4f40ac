"""The configs of this project by name, like ``detectron2.model_zoo``, and overlays for them.

::

    from shakedrop_det import model_zoo

    model_zoo.list()
    model_zoo.list_overlays()
    name = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml"
    cfg = model_zoo.get_config(name, overlays=["R_152", "random_drop"])
"""

from .lazy_overlays import shake_lazy_model
from .model_zoo import get_config, get_config_file
from .model_zoo import list_configs as list
from .overlays import apply_overlay, list_overlays

__all__ = [
    "apply_overlay",
    "get_config",
    "get_config_file",
    "list",
    "list_overlays",
    "shake_lazy_model",
]
