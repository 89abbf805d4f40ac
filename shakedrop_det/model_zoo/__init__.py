"""The configs of this project by name, in the manner of ``detectron2.model_zoo``.

::

    from shakedrop_det import model_zoo

    model_zoo.list()
    cfg = model_zoo.get_config("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml")
"""

from .model_zoo import get_config, get_config_file
from .model_zoo import list_configs as list

__all__ = ["get_config", "get_config_file", "list"]
