from shakedrop_det.model_zoo import apply_overlay
from shakedrop_det.model_zoo.stock import get_config

_cfg = get_config("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.py")
apply_overlay(_cfg, "shakedrop")
dataloader, model = _cfg.dataloader, _cfg.model
lr_multiplier, optimizer, train = _cfg.lr_multiplier, _cfg.optimizer, _cfg.train

for _key in ("mask_in_features", "mask_pooler", "mask_head"):
    del model.roi_heads[_key]
dataloader.train.mapper.use_instance_mask = False
