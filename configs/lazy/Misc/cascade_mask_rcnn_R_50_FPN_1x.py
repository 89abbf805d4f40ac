from shakedrop_det.model_zoo import apply_overlay
from shakedrop_det.model_zoo.stock import get_config

_cfg = get_config("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.py")
_cfg.model = get_config("common/models/cascade_rcnn.py").model
apply_overlay(_cfg, "shakedrop")
dataloader, model = _cfg.dataloader, _cfg.model
lr_multiplier, optimizer, train = _cfg.lr_multiplier, _cfg.optimizer, _cfg.train

model.backbone.bottom_up.freeze_at = 2
model.proposal_generator.post_nms_topk = (2000, 1000)
