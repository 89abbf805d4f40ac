from shakedrop_det.model_zoo import apply_overlay
from shakedrop_det.model_zoo.stock import get_config

_cfg = get_config("COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.py")
apply_overlay(_cfg, "shakedrop")
dataloader, model = _cfg.dataloader, _cfg.model
lr_multiplier, optimizer, train = _cfg.lr_multiplier, _cfg.optimizer, _cfg.train
